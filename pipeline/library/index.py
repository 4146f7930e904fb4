"""The index of models that can be got by name.

It is a part of the package, so its checksums are trusted as the code is, and no list is
downloaded that somebody could change. A model that is published later has an address and a
checksum; its name is known from the next version on.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from voxtile.models.spec import NAME

INDEX = Path(__file__).with_name("index.json")

Text = Annotated[str, Field(min_length=1, max_length=1000)]


class _Frozen(BaseModel):
    """A value whose unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Published(_Frozen):
    """A model that was published as one archive, at one address or several."""

    name: Annotated[str, Field(pattern=NAME)]
    description: Text
    modality: Text
    labels: Annotated[tuple[Text, ...], Field(min_length=1)]
    licence: Text
    size_bytes: Annotated[int, Field(gt=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    addresses: Annotated[
        tuple[Annotated[str, Field(pattern=r"^https?://")], ...], Field(min_length=1)
    ]

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.description}\n  {self.modality}; {', '.join(self.labels)}\n"
            f"  {self.size_bytes / 1e6:.1f} MB, {self.licence}; voxtile models get {self.name}"
        )


class _Index(_Frozen):
    """The content of ``index.json``."""

    format: Literal["voxtile-index"]
    format_version: Literal[1]
    models: tuple[Published, ...]


def published_models() -> dict[str, Published]:
    """Return the models of the index by name."""
    models = _Index.model_validate_json(INDEX.read_bytes()).models
    return {model.name: model for model in models}
