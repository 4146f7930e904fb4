"""Cases and formats to files. A case that cannot be written has a reason; the others go on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from voxtile.errors import CaseError, EnvironmentFault, ManifestError, Notice
from voxtile.manifest.rows import read_manifest
from voxtile.volume import Volume

from .finished import Finished, finished_cases, read_finished_mask

Writer = Callable[[Finished, Volume], tuple[Notice, ...]]

# Module and function of each format; imported when asked for, as highdicom takes a second.
FORMATS = {
    "seg.nrrd": "slicer:write_seg_nrrd",
    "tables": "tables:write_tables",
    "dicom-seg": "dicom_seg:write_binary_seg",
    "dicom-seg-labelmap": "dicom_seg:write_labelmap_seg",
    "bids": "bids:write_bids",
    "binary": "binary:write_binary",
    "stl": "surfaces:write_stl",
    "glb": "surfaces:write_glb",
}
# Written while the network runs; afterwards they are gone.
DURING = ("probabilities", "probabilities16")


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of one case and format: notices, or the reason why there is no file."""

    case_id: str
    format: str
    notices: tuple[Notice, ...] = ()
    reason: Notice | None = None


def check_formats(names: Iterable[str], *, running: bool = False) -> tuple[str, ...]:
    """Return the names, each once.

    Parameters
    ----------
    names : iterable of str
    running : bool, default False
        Whether a run is about to begin, which alone can keep probabilities.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    wanted = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    known = (*FORMATS, *DURING) if running else tuple(FORMATS)
    for name in wanted:
        if name in DURING and not running:
            raise ValueError(
                f"{name} exist only while a model runs; use `voxtile run ... --export {name}`"
            )
        if name not in known:
            raise ValueError(f"format {name!r} is not one of {', '.join(known)}")
    if not wanted:
        raise ValueError(f"name at least one format of {', '.join(known)}")
    return wanted


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
        The run folder; files go into ``exports/`` below it.
    formats : sequence of str
        Of `FORMATS`.
    manifest, root : str or Path, optional
        The run's manifest, for formats that need the scans: a run folder
        holds no paths.
    cases : sequence of str, optional
        Ids of the cases to export; all unless given.
    on_export : callable, optional
        Called with each result as it is there.

    Returns
    -------
    tuple of Exported
        One for each case and format, failures among them.

    Raises
    ------
    ManifestError
        If the folder is no run's, or the manifest has problems.
    ValueError
        If a format does not exist.
    """
    wanted = check_formats(formats)
    listed = None if manifest is None else read_manifest(manifest, root=root)
    finished = finished_cases(Path(out), listed)
    if cases:
        missing = sorted(set(cases) - {case.case_id for case in finished})
        if missing:
            raise ManifestError([f"{out} has no finished case {', '.join(missing)}"])
        finished = tuple(case for case in finished if case.case_id in cases)
    results = []
    for case in finished:
        for result in _export(case, wanted):
            results.append(result)
            if on_export is not None:
                on_export(result)
    return tuple(results)


def export_case(case: Finished, mask: Volume, formats: Sequence[str]) -> tuple[Notice, ...]:
    """Write one mask in several formats, and return what was odd; a failure is a notice.

    For a run: what cannot be exported must not cost the mask.
    """
    notices: list[Notice] = []
    for name in formats:
        if name in DURING:
            continue
        result = _attempt(case, name, lambda: mask)
        notices += result.notices
        if result.reason is not None:
            notices.append(
                Notice("export_failed", f"{name}: {result.reason.code}: {result.reason.sentence}")
            )
    return tuple(notices)


def _export(case: Finished, formats: Sequence[str]) -> Iterable[Exported]:
    """Yield the result for each format; the mask is read once."""
    read: list[Volume] = []

    def mask() -> Volume:
        """Return the mask, read when first needed."""
        if not read:
            read.append(read_finished_mask(case))
        return read[0]

    for name in formats:
        yield _attempt(case, name, mask)


def _attempt(case: Finished, name: str, mask: Callable[[], Volume]) -> Exported:
    """Return the result of one format, whatever a scan may hold."""
    try:
        return Exported(case.case_id, name, _writer(name)(case, mask()))
    except EnvironmentFault:
        raise
    except CaseError as error:
        return Exported(case.case_id, name, reason=Notice(error.code, error.sentence))
    except Exception as error:
        # Only its type: a foreign message may quote patient text.
        reason = Notice(
            "unexpected",
            f"{type(error).__name__} while writing; this is a bug of voxtile: please report it",
        )
        return Exported(case.case_id, name, reason=reason)


def _writer(name: str) -> Writer:
    """Return the function of a format."""
    module, function = FORMATS[name].split(":")
    writer: Writer = getattr(import_module(f"voxtile.export.{module}"), function)
    return writer
