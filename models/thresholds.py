"""Other thresholds than a model's own, chosen for a run."""

from collections.abc import Mapping
from dataclasses import replace

from voxtile.errors import UsageError, first_few

from .bundle import Bundle
from .spec import ModelSpec


def with_thresholds(bundle: Bundle, chosen: Mapping[str, float]) -> Bundle:
    """Return a bundle that decides with other thresholds.

    `chosen` has the smallest probability of labels, by their names or values; other labels keep
    the model's. UsageError if the model has no thresholds, or a label or number is not valid.
    """
    if not chosen:
        return bundle
    spec = bundle.spec
    if spec.activation == "softmax":
        raise UsageError(
            f"--threshold: the model {bundle.name} gives each voxel the most probable of "
            f"{spec.output_channels} classes (softmax), so it has no thresholds; leave --threshold "
            "out, or train a model with one label or with regions"
        )
    thresholds = dict(enumerate(_thresholds(spec)))
    named: dict[int, str] = {}
    for label, threshold in chosen.items():
        index = _index(spec, str(label))
        if index in named:
            raise UsageError(f"--threshold: {named[index]} and {label} are the same label")
        if not 0 < threshold < 1:
            raise UsageError(f"--threshold {label}={threshold:g} must be above 0 and below 1")
        named[index] = str(label)
        thresholds[index] = threshold
    update = {"thresholds": tuple(thresholds.values())}
    first, *others = (
        replace(one, spec=one.spec.model_copy(update=update)) for one in bundle.members
    )
    return replace(first, others=tuple(others))


def changed_thresholds(before: Bundle, after: Bundle) -> dict[str, float]:
    """Return the thresholds of `after` that differ from those of `before`, by the label's name."""
    return {
        label.name: new
        for label, old, new in zip(
            before.spec.labels, _thresholds(before.spec), _thresholds(after.spec), strict=True
        )
        if new != old
    }


def _thresholds(spec: ModelSpec) -> tuple[float, ...]:
    """Return one threshold for each label."""
    return spec.thresholds or (0.5,) * len(spec.labels)


def _index(spec: ModelSpec, label: str) -> int:
    """Return the place of a label that is given by its name or value."""
    names = [one.name for one in spec.labels]
    values = [str(one.value) for one in spec.labels]
    for known in (names, values):
        if label in known:
            return known.index(label)
    labels = [f"{value} ({name})" for value, name in zip(values, names, strict=True)]
    raise UsageError(
        f"--threshold names label {label!r}, but the model's are {first_few(labels)}; "
        "use a name or a value"
    )
