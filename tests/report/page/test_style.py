"""The colours of the style sheet: text and marks are seen on what they stand on, light and dark.

Contrast as in WCAG 2.1, 1.4.3 and 1.4.11.
"""

import re

import pytest

from voxtile.report.page.page import resource

STYLE = resource("style.css")
# Colour: the colours that it stands on as text. Pictures have their own background.
TEXT = {
    "ink": ("paper", "card", "accent-soft", "caution-soft", "bad-soft"),
    "soft": ("paper", "card", "accent-soft"),
    "accent": ("paper", "card", "accent-soft", "caution-soft"),
    "good": ("card", "good-soft"),
    "caution": ("card", "caution-soft"),
    "bad": ("card", "bad-soft"),
    "paper": ("ink",),
    "#9fb0be": ("stage",),
    "#c9d4dd": ("stage",),
    "#ffd75e": ("stage",),
    "inherit": (),
}
# Colour: the colours that it stands on as a line, a mark or the edge of a control.
MARKS = {
    "control": ("paper", "card"),
    "soft": ("paper", "card"),
    "ink": ("paper", "card"),
    "accent": ("paper", "card", "box"),
    **{f"line-{number}": ("card",) for number in range(6)},
}


SCREEN, _, PAPER = STYLE.partition("@media print")


def variables(theme: str) -> dict[str, str]:
    """The colours of the style sheet by name; paper replaces some of the light ones."""
    colors = {}
    for part in (SCREEN, PAPER if theme == "paper" else ""):
        found = re.findall(r"--([\w-]+): (?:light-dark\((#\w+), (#\w+)\)|(#\w+));", part)
        for name, light, dark, both in found:
            color = both or (dark if theme == "dark" else light)
            short = len(color) == 4
            colors[name] = re.sub(r"(\w)", r"\1\1", color) if short else color
    return colors


def luminance(color: str, below: str = "#000000") -> float:
    """The relative luminance of a colour, laid over another one if it has an alpha."""
    shares = [int(part, 16) / 255 for part in re.findall("..", color[1:])]
    under = [int(part, 16) / 255 for part in re.findall("..", below[1:])][:3]
    alpha = shares[3] if len(shares) > 3 else 1.0
    mixed = [alpha * one + (1 - alpha) * other for one, other in zip(shares, under, strict=False)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in mixed[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str, below: str = "#000000") -> float:
    dark, light = sorted((luminance(one), luminance(other, below)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#ffffff", "#00000080", below="#ffffff") == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark", "paper"])
@pytest.mark.parametrize(("pairs", "least"), [(TEXT, 4.5), (MARKS, 3.0)], ids=["text", "marks"])
def test_text_and_marks_are_seen_on_what_they_stand_on(theme: str, pairs, least: float) -> None:
    colors = variables(theme)
    low = {
        (name, ground): round(ratio, 2)
        for name, grounds in pairs.items()
        for ground in grounds
        if (ratio := contrast(colors.get(name, name), colors[ground], colors["card"])) < least
    }
    assert low == {}


def test_every_colour_of_text_in_the_style_sheet_is_tested() -> None:
    used = re.findall(r"(?<![\w-])(?:color|fill): (?:var\(--([\w-]+)\)|(#\w+|inherit))", STYLE)
    names = {variable or literal for variable, literal in used}
    assert names - {"box", "card"} <= TEXT.keys() | MARKS.keys()
    lines = {*re.findall(r"(?<![\w-])stroke: var\(--([\w-]+)\)", STYLE)}
    assert lines - {"grid", "card"} <= MARKS.keys()
