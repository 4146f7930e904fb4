"""`voxtile models get`, `pack` and `card`: download, publish and describe models."""

from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, OneModel, Option, argument
from .output import answering, counter, echo_lines


def get(
    *,
    model: Annotated[str, argument("Name in the index, or address of an archive.")],
    sha256: Annotated[str, Option("SHA-256 of the archive; needed for an address.")] = "",
    as_json: AsJson,
) -> None:
    """Download a model once and check it; then its name can be used, also offline.

    Examples
    --------
    voxtile models get hippocampus
    voxtile models get https://example.org/liver.zip --sha256 2c26b46b68ff...
    """
    from voxtile.library.get import get_model

    shown = counter("MB")
    found = get_model(
        model, sha256, on_bytes=lambda done, size: shown(done // 10**6, size // 10**6)
    )
    with answering(as_json=as_json) as answer:
        typer.echo(f"{'model' if found.is_new else 'already there'}: {found.folder}")
        typer.echo(f"use it: voxtile run SCANS {found.name} --out out")
        answer({"name": found.name, "folder": str(found.folder), "new": found.is_new})


def pack(
    *,
    model: OneModel,
    out: Annotated[Path | None, "Archive to write (default: NAME.zip)."] = None,
    as_json: AsJson,
) -> None:
    """Write a model as one file to publish, if it has a card and a licence.

    Examples
    --------
    voxtile models pack my_model
    voxtile models pack my_model --out liver.zip
    """
    from dataclasses import asdict

    from voxtile.library.pack import pack_model
    from voxtile.models.bundle import load_bundle
    from voxtile.run_folder.protection import Input, protect

    bundle = load_bundle(model)
    out = out or Path(f"{bundle.name}.zip")
    protect([Input("the model", one.folder) for one in bundle.members], out)
    packed = pack_model(bundle, out)
    with answering(as_json=as_json) as answer:
        typer.echo(f"archive: {out} ({packed.size_bytes:,} bytes, SHA-256 {packed.sha256})")
        echo_lines(f"left out: {name}" for name in packed.left_out)
        echo_lines(f"note: {notice}" for notice in packed.notices)
        typer.echo(
            "when it is published, others get it with:\n"
            f"  voxtile models get ADDRESS --sha256 {packed.sha256}"
        )
        answer({"archive": str(out), **asdict(packed)})


def card(*, model: Annotated[str, argument("Name of a model, or a model folder.")]) -> None:
    """Show the card of a model: what it does, its scores, its limits.

    Examples
    --------
    voxtile models card hippocampus
    voxtile models card my_model
    """
    from voxtile.library.card import read_card

    typer.echo(read_card(model))
