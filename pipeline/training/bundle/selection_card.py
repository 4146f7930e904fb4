"""What validation cases chose, in words: for the screen and for the bundle's card."""

from collections.abc import Iterator, Mapping
from typing import Any


def selection_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a selection came to, for the screen."""
    dice = facts["dice"]
    for view, weight in facts["weights"].items():
        if len(facts["weights"]) > 1:
            yield f"{view}: validation Dice {dice[view]:.4f}, weight {weight:.3g}"
    yield (
        f"validation Dice {dice['before']:.4f}, and {dice['chosen']:.4f} with what "
        f"{facts['cases']} cases chose: {chosen_words(facts)}"
    )


def chosen_words(facts: Mapping[str, Any]) -> str:
    """Return what was chosen, in words."""
    words = []
    if facts["weights_changed"]:
        shares = ", ".join(f"{view} {weight:g}" for view, weight in facts["weights"].items())
        words.append(f"view weights {shares}")
    if facts["thresholds_changed"]:
        words.append("thresholds " + ", ".join(f"{value:g}" for value in facts["thresholds"]))
    for division in facts.get("divisions", ()):
        shared = " and ".join(map(str, division["labels"]))
        words.append(f"one of labels {shared} in each plane along {division['axis']}")
    for step in facts["postprocess"]:
        done = [
            f"the {step['largest']} largest parts" if step.get("largest", 0) > 1 else "",
            "the largest part" if step.get("largest") == 1 else "",
            f"parts of at least {step['smallest_mm3']:g} mm3" if step["smallest_mm3"] else "",
            "filled holes" if step["fill_holes"] else "",
        ]
        words.append(f"label {step['label']}: " + " and ".join(filter(None, done)))
    return "; ".join(words) or "nothing (no candidate was better)"


def selection_section(facts: Mapping[str, Any] | None) -> str:
    """Return a section of a model card, in Markdown; nothing where nothing was chosen from."""
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
        f"| with what was chosen | {facts['dice']['chosen']:.4f} | |",
    ]
    table = "\n".join(rows)
    return f"""
## How its answers are used

The same validation cases ({facts["cases"]}) chose: {chosen_words(facts)}. A choice was kept only \
where it raised their mean Dice (weights and thresholds: by more than {facts["margin"]:g}) and \
more of them gained than lost; a division, which their references show, unless it lowered it by \
more than {facts["margin"]:g}.

| | mean Dice | weight |
|---|---|---|
{table}
"""
