"""``quality.json`` of a bundle: how the Dice of its masks is predicted without a reference.

It is not part of ``spec.json``, because it changes no mask: a model stays the same model after it
was calibrated again.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from voxtile.errors import ModelError

from .bundle import Bundle
from .complaints import complaints

FILE = "quality.json"
# Fewer cases give no bound: a bound for 90 % with 70 % confidence needs at least 12.
FEWEST = 20
_LARGEST = 2**24
Logit = Annotated[float, Field(ge=-20, le=20, allow_inf_nan=False)]


class LabelQuality(BaseModel):
    """The prediction of one label, on the scale ``logit(p) = log(p / (1 - p))``.

    ``logit(Dice) = offset + slope * logit(expected Dice)``. `left_out` has, for each calibration
    case, offset and slope that were fitted without its group, and the error on the case itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: Annotated[int, Field(ge=1, le=65535)]
    offset: Logit
    slope: Logit
    left_out: Annotated[
        tuple[tuple[Logit, Logit, Logit], ...], Field(min_length=FEWEST, max_length=100_000)
    ]


class Quality(BaseModel):
    """The calibration of a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["voxtile-quality"] = "voxtile-quality"
    format_version: Literal[1] = 1
    model: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # SHA-256 of the bundle
    source: Annotated[str, Field(max_length=1000)]  # which cases it was made from, for people
    labels: Annotated[tuple[LabelQuality, ...], Field(max_length=1000)]

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len({one.label for one in self.labels}) < len(self.labels):
            raise ValueError("a label appears twice")
        return self

    def dump(self) -> str:
        """Return the calibration as JSON text."""
        return self.model_dump_json(indent=1) + "\n"

    @property
    def sha256(self) -> str:
        """Hash of everything that changes a prediction."""
        return hashlib.sha256(self.dump().encode()).hexdigest()


def read_quality(bundle: Bundle) -> Quality | None:
    """Return the calibration of a bundle; None if it has none, or for several bundles at once.

    ModelError if the file is not valid, or is of another model.
    """
    path = bundle.folder / FILE
    if bundle.others or not path.exists():
        return None
    advice = "calibrate the model again (voxtile models calibrate), or remove the file"
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelError(f"{path} has more than {_LARGEST // 2**20} MiB; {advice}")
        quality = Quality.model_validate_json(Path(path).read_bytes(), strict=True)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise ModelError(
            f"{path} is not valid: {'; '.join(complaints(error))}; {advice}"
        ) from error
    if quality.model != bundle.sha256:
        raise ModelError(f"{path} was made for another model than this spec.json; {advice}")
    return quality
