"""The rows of the history as TensorBoard events."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from voxtile.errors import UsageError
from voxtile.training.fitting.checkpoint import Row


@contextmanager
def scalar_events(folder: Path | None) -> Iterator[Callable[[str, Row], None]]:
    """Yield a function that writes a row of a network; without a folder it writes nothing.

    The folder gets a folder of events for each network. TensorFlow writes them
    with every backend of Keras; TensorBoard itself need not be installed.

    Raises
    ------
    UsageError
        If TensorFlow is not installed.
    """
    if folder is None:
        yield lambda network, row: None
        return
    if find_spec("tensorflow") is None:
        raise UsageError(
            "--tensorboard needs TensorFlow, which is not installed; pip install tensorflow, or "
            "leave the option out: history.csv has the same numbers"
        )
    import voxtile.models.backend  # noqa: F401, I001  # first: it hides TensorFlow's messages
    import tensorflow

    metadata = tensorflow.compat.v1.SummaryMetadata(
        plugin_data=tensorflow.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    )
    writers = {}

    def write(network: str, row: Row) -> None:
        if network not in writers:
            writers[network] = tensorflow.summary.create_file_writer(str(folder / network))
        with writers[network].as_default():
            for name, value in row.items():
                if name not in ("epoch", "steps") and isinstance(value, int | float):
                    tensorflow.summary.write(
                        name, tensorflow.constant(value, tensorflow.float32), row["steps"], metadata
                    )
        writers[network].flush()

    try:
        yield write
    finally:
        for writer in writers.values():
            writer.close()
