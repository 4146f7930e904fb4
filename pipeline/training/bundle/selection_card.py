"""What the validation cases chose, in words: for the screen and for the bundle's card."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from voxtile.errors import counted
from voxtile.models.spec import Division, ModelSpec


def selection_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the result of a selection, for the screen."""
    dice = facts["dice"]
    for view, weight in facts["weights"].items():
        if len(facts["weights"]) > 1:
            yield f"{view}: validation Dice {dice[view]:.4f}, weight {weight:.3g}"
    yield (
        f"validation Dice {dice['before']:.4f} before and {dice['chosen']:.4f} after the choices "
        f"on {counted(facts['cases'], 'case')}: {chosen_words(facts)}"
    )


def chosen_words(facts: Mapping[str, Any]) -> str:
    """Return the choices in words."""
    words = []
    if facts["weights_changed"]:
        shares = ", ".join(f"{view} {weight:g}" for view, weight in facts["weights"].items())
        words.append(f"view weights {shares}")
    if facts["thresholds_changed"]:
        words.append("thresholds " + ", ".join(f"{value:g}" for value in facts["thresholds"]))
    for division in facts.get("divisions", ()):
        words.append(division_words(division["labels"], division["axis"]))
    for step in facts["postprocess"]:
        largest = step.get("largest", 0)
        done = [
            f"only the {largest} largest parts" if largest > 1 else "",
            "only the largest part" if largest == 1 else "",
            f"only parts of at least {step['smallest_mm3']:g} mm3" if step["smallest_mm3"] else "",
            "holes filled" if step["fill_holes"] else "",
        ]
        words.append(f"label {step['label']}: " + ", ".join(filter(None, done)))
    return "; ".join(words) or "no change (no candidate was better)"


def division_words(labels: Sequence[int], axis: str) -> str:
    """Return what a division of labels does."""
    return f"only one of labels {' and '.join(map(str, labels))} in each plane along {axis}"


def choices_of(spec: ModelSpec) -> str:
    """Return what validation cases, or references alone, chose for a trained bundle, in words."""
    facts = spec.training.get("selection")
    return reference_words(spec.divisions) if facts is None else chosen_words(facts)


def reference_words(divisions: Sequence[Division]) -> str:
    """Return what references alone chose, in words."""
    chosen = "; ".join(division_words(one.labels, one.axis) for one in divisions)
    return f"the references chose: {chosen}" if chosen else "nothing was chosen"


def reference_section(divisions: Sequence[Division]) -> str:
    """Return a section of a model card on what the references chose; empty without a division."""
    if not divisions:
        return ""
    return f"""
## How its probabilities become masks

No case was held out, and {reference_words(divisions)}. They hardly ever have both labels in \
such a plane. No other choice was made.
"""


def selection_section(facts: Mapping[str, Any] | None) -> str:
    """Return a section of a model card in Markdown; empty without a selection."""
    if facts is None:
        return ""
    rows = [
        f"| {view} alone | {facts['dice'][view]:.4f} | {weight:.3g} |"
        for view, weight in facts["weights"].items()
    ]
    together = "all views" if len(rows) > 1 else "as trained"
    rows = rows if len(rows) > 1 else []
    rows += [
        f"| {together}, before | {facts['dice']['before']:.4f} | |",
        f"| with these choices | {facts['dice']['chosen']:.4f} | |",
    ]
    table = "\n".join(rows)
    return f"""
## How its probabilities become masks

The same {counted(facts["cases"], "validation case")} chose: {chosen_words(facts)}. A change was \
made only if it raised their mean Dice (weights and thresholds: by more than \
{facts["margin"]:g}) and more cases improved than got worse. A division that the references show \
was used unless it lowered the mean Dice by more than {facts["margin"]:g}.

| | mean Dice | weight |
|---|---|---|
{table}
"""
