"""A folder or file of scans instead of a manifest: list its cases, check them, and show both."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from voxtile.errors import counted

from .output import counter, echo_lines

if TYPE_CHECKING:
    from voxtile.manifest.check import CheckResult
    from voxtile.manifest.listing import Listed
    from voxtile.models.bundle import Bundle
    from voxtile.run.settings import RunSettings

# A run shows at most so many findings; `voxtile manifest check` shows all.
_MOST = 20


def list_scans(source: Path, out: Path, root: Path | None) -> "Path | Listed":
    """Return a manifest's path, or the cases of a folder or file; print what was found."""
    from voxtile.batch.drive import listed_or_path
    from voxtile.manifest.advice import manifest_notices

    listed = listed_or_path(source, out, root, counter("files"))
    if isinstance(listed, Path):
        for notice in manifest_notices(listed):
            typer.echo(f"warning: {notice}", err=True)
        return listed
    typer.echo(f"{source} was detected as {listed.kind}")
    echo_lines(f"note: {notice}" for notice in listed.notices)
    labelled = sum(case.label is not None for case in listed.cases)
    typer.echo(f"{counted(len(listed.cases), 'case')}, {labelled} with a reference")
    return listed


def check_scans(
    source: "Path | Listed",
    bundle: "Bundle",
    settings: "RunSettings",
    root: Path | None,
    *,
    voxels: bool,
) -> "CheckResult":
    """Return the check of all cases by their headers, and print it.

    With `voxels`, the first cases are also compared with the model's training scans.
    """
    from voxtile.manifest.check import CheckSettings, check_manifest
    from voxtile.report.suitability import suitability

    result = check_manifest(
        source,
        root=root,
        spec=bundle.spec,
        settings=CheckSettings(False, settings.policy, settings.label_map),
        compare=suitability(bundle) if voxels else None,
        on_case=counter("cases"),
    )
    errors = len(result.errors)
    warnings = len(result.findings) - errors
    typer.echo(f"check: {counted(errors, 'error')}, {counted(warnings, 'warning')}")
    echo_lines(f"  {finding}" for finding in result.findings[:_MOST])
    if len(result.findings) > _MOST:
        typer.echo(f"  and {len(result.findings) - _MOST} more")
    return result


def facts_of(source: "Path | Listed", result: "CheckResult | None", manifest: Path) -> Any:
    """Return what the JSON answer of a run says about its cases."""
    return {
        "source": str(source),
        "manifest": str(manifest),
        "notes": [] if isinstance(source, Path) else source.notices,
        "findings": [] if result is None else result.findings,
    }
