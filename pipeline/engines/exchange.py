"""Export models as ONNX, OpenVINO or SavedModel, and import ONNX and Keras networks."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from voxtile.errors import EnvironmentFault, ModelError, UsageError
from voxtile.machine.files import regular, replacing_folder, write_text
from voxtile.models.bundle import Bundle, bundle_name, load_bundle
from voxtile.models.spec import ModelSpec, Network
from voxtile.models.spec_file import parse_spec

from .engine import ENGINES, Engine, load_models, reference_engine
from .fitting import check_answer
from .translated import ask_child, ensure
from .trial_tiles import trial_tiles

Format = Literal["onnx", "openvino", "savedmodel"]

_NEEDS = {"onnx": ("tf2onnx", "onnxruntime"), "openvino": ("openvino",), "savedmodel": ()}


def export_model(name: str | Path, form: str, out: Path) -> list[Path]:
    """Write the networks of a bundle for other programs, and compare their output with Keras'.

    `form` is onnx, openvino or savedmodel. The new folder `out` has ``<network>.onnx``,
    ``<network>.xml`` with ``.bin``, or a folder ``<network>``; and ``spec.json``, ``README.md`` and
    ``LICENSE``. With onnx, `out` is again a bundle. Return the file or folder of each network.
    """
    if form not in get_args(Format):
        raise UsageError(f"--format {form!r} must be one of {', '.join(get_args(Format))}")
    bundle = load_bundle(name)
    if bundle.others:
        raise ModelError(f"{bundle.name} names several models; export them one at a time")
    for package in _NEEDS[form]:
        if find_spec(package) is None:
            raise EnvironmentFault(f'{package} is not installed; pip install "voxtile[{form}]"')
    with new_folder(out) as work:
        written = [_export(bundle, network, form, work) for network in bundle.spec.networks]
        spec = bundle.spec
        if form == "onnx":
            digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in written]
            networks = [
                network.model_copy(update={"file": path.name, "sha256": digest})
                for network, path, digest in zip(spec.networks, written, digests, strict=True)
            ]
            spec = spec.model_copy(update={"networks": tuple(networks)})
        write_text(work / "spec.json", spec.dump())
        for other in ("README.md", "LICENSE"):
            if (bundle.folder / other).is_file():
                shutil.copyfile(bundle.folder / other, work / other)
        if form == "onnx":
            load_bundle(work)
    return [out / path.name for path in written]


def import_model(file: Path, spec: Path, out: Path) -> Bundle:
    """Make a bundle from a 2D network that another program trained.

    `file` is ``.onnx`` or ``.keras``, `spec` a ``spec.json``. Its `networks` may be missing, or
    have one entry without `file` and `sha256`: views (default axial), layout, output. The bundle
    gets the name of the new folder `out`, whatever the spec says: a spec may be a copy of another
    model's.
    """
    called = bundle_name(out)
    if file.suffix not in (".onnx", ".keras"):
        raise ModelError(
            f"{file.name} must be .onnx or .keras; pickles (.pt, .pth), .h5 and SavedModel are "
            "refused because loading them can run code: export ONNX from the program that wrote it"
        )
    try:
        content = regular(file).read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror})") from error
    name = f"network{file.suffix}"
    filled = _filled(spec, called, name, hashlib.sha256(content).hexdigest())
    with new_folder(out) as work:
        (work / name).write_bytes(content)
        write_text(work / "spec.json", filled.dump())
        write_text(work / "README.md", _card(filled, file.name))
        try:
            _try(load_bundle(work), file.name)
        except ModelError as error:
            raise ModelError(str(error).replace(str(work / name), file.name)) from error
    return load_bundle(out)


def _export(bundle: Bundle, network: Network, form: str, work: Path) -> Path:
    """Write one network; return its file or folder."""
    stem = Path(network.file).stem
    if network.file.endswith(".onnx"):
        if form != "onnx":
            raise ModelError(
                f"{network.file} is an ONNX network, which cannot be exported as {form}; other "
                "programs read it as it is"
            )
        (work / network.file).write_bytes(bundle.read_network(network))
        return work / network.file
    if form == "openvino":
        source = ensure(bundle, network)
        for suffix in (".xml", ".bin"):
            shutil.copyfile(source.with_suffix(suffix), work / f"{stem}{suffix}")
        return work / f"{stem}.xml"
    answer = ask_child(form, bundle, network, work)
    if "refused" in answer:
        raise ModelError(str(answer["refused"]).partition("; use --engine")[0])
    return work / (f"{stem}.onnx" if form == "onnx" else stem)


def _filled(path: Path, called: str, name: str, digest: str) -> ModelSpec:
    """Return the spec, completed with the bundle's name and the network's file and SHA-256."""
    try:
        content: Any = json.loads(regular(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)[:100]
        raise ModelError(f"{path} cannot be read as JSON ({why})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} must be a JSON object, as docs/model-bundle.md describes")
    networks = content.get("networks", [{}])
    if not isinstance(networks, list) or len(networks) != 1 or not isinstance(networks[0], dict):
        raise ModelError(f"{path} must have one network, because one file is imported")
    network = {"views": ["axial"], **networks[0], "file": name, "sha256": digest}
    return parse_spec(json.dumps({**content, "name": called, "networks": [network]}), str(path))


def _try(bundle: Bundle, name: str) -> None:
    """Refuse a network whose output for trial tiles is not what its spec says."""
    (network,) = bundle.spec.networks
    name_of_engine = reference_engine(network)
    ENGINES[name_of_engine].check_installed()
    (model,) = load_models(bundle, Engine(name_of_engine))
    tiles = trial_tiles(bundle.spec, 2)
    try:
        answer = model(tiles)
    except Exception as error:  # from any runtime
        raise ModelError(
            f"{name} failed on tiles of {bundle.spec.tile} ({type(error).__name__}); check the "
            "tile and the layout in the spec"
        ) from error
    check_answer(answer, tiles, bundle.spec, name)


def _card(spec: ModelSpec, source: str) -> str:
    """Return the README.md of an imported bundle."""
    labels = "\n".join(f"| {label.value} | {label.name} |" for label in spec.labels)
    return f"""# {spec.name}

{spec.description or "A 2D network that was trained elsewhere."}

    voxtile run MANIFEST {spec.name} --out DIR

(a shipped model has a name; for any other, give the path of its folder)

Imported from `{source}` by `voxtile models import`, which knows nothing about its training. Say \
where it comes from and how it was tested, and add its LICENSE, before you pass this model on.

| value | label |
|---|---|
{labels}

Research use only. Not a medical device; not for diagnosis or treatment.
"""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder that becomes `out` when the block ends without an error."""
    if os.path.lexists(out):
        raise ModelError(f"{out} exists; name a new folder")
    with replacing_folder(out) as work:
        yield work
