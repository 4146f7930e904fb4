"""Export cases. A case that cannot be written gets a reason, and the others are still written."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path

from voxtile.errors import (
    CaseError,
    EnvironmentFault,
    ManifestError,
    Notice,
    first_few,
    place_of,
)
from voxtile.machine.memory_errors import is_out_of_memory
from voxtile.manifest.rows import read_manifest
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.lock import locked
from voxtile.run_folder.protection import inputs_of, manifest_input, protect
from voxtile.volume import Volume

from .finished import Finished, finished_and_missing, finished_cases, read_finished_mask
from .forgetting import refuse_to_replace
from .formats import FORMATS, PROBABILITIES, check_formats

_MISSING = "missing"
Writer = Callable[[Finished, Volume], tuple[Notice, ...]]


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of one case and format: notices, or the reason why nothing was written."""

    case_id: str
    format: str
    notices: tuple[Notice, ...] = ()
    reason: Notice | None = None

    @property
    def is_missing(self) -> bool:
        """Whether the run has no valid record of the case."""
        return self.reason is not None and self.reason.code == _MISSING


def export_run(
    out: str | Path,
    formats: Sequence[str],
    *,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    cases: Sequence[str] = (),
    on_export: Callable[[Exported], None] | None = None,
) -> tuple[Exported, ...]:
    """Write the finished masks of a run in other formats.

    Parameters
    ----------
    out : str or Path
        The run folder; files are written to ``exports/`` in it.
    manifest, root : str or Path, optional
        The run's manifest, for formats that need the scans, because a run
        folder holds no paths.
    cases : sequence of str, optional
        Ids of the cases to export; all by default.
    on_export : callable, optional
        Called with each result.

    Returns
    -------
    tuple of Exported
        One for each case and format, including failures. Cases of the run that
        are not finished, or whose record is damaged, are failures, too.

    Raises
    ------
    ManifestError
        If the folder is not the folder of a run, or the manifest has problems.
    EnvironmentFault
        If a run is writing the folder.
    ValueError
        If a format does not exist.
    """
    wanted = check_formats(formats)
    listed = None if manifest is None else read_manifest(manifest, root=root)
    if manifest is not None and listed is not None:
        inputs = [*manifest_input(Path(manifest), RunFolder(Path(out))), *inputs_of(listed)]
        protect(inputs, RunFolder(Path(out)).exports, advice="move it out of the run folder")
    finished_cases(Path(out), listed)  # before the lock, which would create the folder
    results: list[Exported] = []

    def add(result: Exported) -> None:
        results.append(result)
        if on_export is not None:
            on_export(result)

    with locked(Path(out)):
        finished, missing = finished_and_missing(Path(out), listed)
        if cases:
            absent = sorted(set(cases) - {case.case_id for case in finished})
            if absent:
                raise ManifestError(f"{out} has no finished case {first_few(absent)}")
            finished, missing = tuple(case for case in finished if case.case_id in cases), {}
        for case in finished:
            mask = cache(partial(read_finished_mask, case))
            for name in wanted:
                add(_attempt(case, name, mask))
        for case_id, why in missing.items():
            reason = Notice(_MISSING, f"{why or 'it is not done yet'}; run the manifest again")
            for name in wanted:
                add(Exported(case_id, name, reason=reason))
    return tuple(results)


def export_case(case: Finished, mask: Volume, formats: Iterable[str]) -> tuple[Notice, ...]:
    """Write one mask in several formats; a failure is a notice too, because the mask is kept.

    The mask of a picture is written as PNG, too.
    """
    notices: list[Notice] = []
    if mask.is_picture and mask.shape[2] == 1:
        formats = dict.fromkeys((*formats, "png"))
    for name in formats:
        if name in PROBABILITIES:
            continue
        result = _attempt(case, name, lambda: mask)
        notices += result.notices
        if result.reason is not None:
            notices.append(
                Notice("export_failed", f"{name}: {result.reason.code}: {result.reason.sentence}")
            )
    return tuple(notices)


def _attempt(case: Finished, name: str, mask: Callable[[], Volume]) -> Exported:
    """Return the result of one format; errors of a case are results too."""
    module, function = FORMATS[name].writer.split(":")
    try:
        writer: Writer = getattr(import_module(f"voxtile.export.{module}"), function)
        refuse_to_replace(case.out, case.case_id, name)
        return Exported(case.case_id, name, writer(case, mask()))
    except EnvironmentFault:
        raise
    except CaseError as error:
        return Exported(case.case_id, name, reason=Notice(error.code, error.sentence))
    except Exception as error:
        # Show only its type: a third-party message may quote patient text.
        reason = Notice(
            "unexpected",
            f"{type(error).__name__} while writing ({place_of(error)}); this is a bug in voxtile: "
            "please report it",
        )
        if is_out_of_memory(error):
            reason = Notice("out_of_memory", "memory ran out; use a machine with more memory")
        return Exported(case.case_id, name, reason=reason)
