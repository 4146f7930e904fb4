"""A settled recipe -> the spec of the bundle."""

from pathlib import Path

from pydantic import ValidationError

from voxtile.errors import ManifestError, UsageError
from voxtile.models.complaints import complaints
from voxtile.models.spec import ModelSpec, Network

from .recipe import Recipe, settled
from .rules import is_exclusive


def make_spec(
    name: str,
    description: str,
    channels: tuple[str, ...],
    recipe: Recipe,
    manifest: Path,
    optional: tuple[str, ...] = (),
) -> ModelSpec:
    """Return the spec of the new bundle; the checksums of its networks are not known yet.

    `optional` channels may be missing.
    """
    if not recipe.labels:
        raise ManifestError(
            f"{manifest}: the labels of all training cases are empty; add cases with labels"
        )
    whole = recipe.tile_of(settled(recipe.views))
    try:
        return ModelSpec(
            name=name,
            description=description,
            channels=channels,
            optional_channels=optional,
            context_slices=settled(recipe.context_slices),
            position=settled(recipe.position),
            spacing_mm=recipe.pixel_mm,
            intensity=recipe.scaling,
            tile=whole,
            multiple=2 ** settled(recipe.depth),
            overlap=recipe.overlap,
            labels=recipe.labels,
            ignore=recipe.ignore,
            unlabelled=recipe.unlabelled or None,
            activation="softmax" if is_exclusive(recipe.labels) else "sigmoid",
            networks=tuple(
                Network(
                    file=f"{stem}.keras",
                    sha256="0" * 64,
                    views=views,
                    tile=None if recipe.tile_of(views) == whole else recipe.tile_of(views),
                )
                for stem, views in zip(_names(recipe), recipe.networks, strict=True)
            ),
        )
    except ValidationError as error:  # such as two labels with the same value
        raise UsageError(f"recipe: {'; '.join(complaints(error))}") from error


def _names(recipe: Recipe) -> list[str]:
    """Return each network's name, with its views if they differ, and a number from 2 on."""
    alone = len(recipe.kinds) == 1
    return [
        "_".join(["unet", *(() if alone else views), *((str(member),) if member > 1 else ())])
        for member in range(1, 1 + len(recipe.networks) // len(recipe.kinds))
        for views in recipe.kinds
    ]
