"""The history of a training run as CSV, and its curves as a picture."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import cycle
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from voxtile.models.spec import Label, Network
from voxtile.training.fitting.checkpoint import Row

if TYPE_CHECKING:  # this import loads Keras, which takes seconds
    from voxtile.training.fitting.networks import FittedNetwork

_WIDTH, _HEIGHT, _MARGIN, _LEGEND = 960, 300, 56, 24
_PAPER, _INK, _GRID = (255, 255, 255), (40, 40, 40), (222, 222, 222)
# The colours of Okabe and Ito, which most colour-blind people can distinguish.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_TICKS = 4

Point = tuple[float, float]


def histories(fitted: "Sequence[FittedNetwork]") -> dict[str, Sequence[Row]]:
    """Return the history of each network by its views; a second network also gets a number."""
    names = network_names([one.entry for one in fitted])
    return dict(zip(names, (one.standing.history for one in fitted), strict=True))


def network_names(networks: Sequence[Network]) -> list[str]:
    """Return the name of each network in a history."""
    members: Counter[str] = Counter()
    names = []
    for one in networks:
        views = "+".join(one.views)
        members[views] += 1
        names.append(views if members[views] == 1 else f"{views} {members[views]}")
    return names


def history_table(histories: Mapping[str, Sequence[Row]], labels: Sequence[Label]) -> str:
    """Return the rows of every network as CSV; an epoch without validation has empty cells."""
    columns = ["network", "epoch", "steps", "seconds", "learning_rate", "loss", "waiting"]
    columns += ["val_dice", *(f"val_dice_{label.value}" for label in labels)]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for name, rows in histories.items():
        writer.writerows({"network": name, **row} for row in rows)
    return text.getvalue()


def draw_curves(histories: Mapping[str, Sequence[Row]]) -> Image.Image:
    """Draw the loss and, below it, the validation Dice over the steps, one line per network.

    Networks of the same views, such as ``axial`` and ``axial 2``, share a
    colour.
    """
    kinds = dict.fromkeys(name.partition(" ")[0] for name in histories)
    colors = dict(zip(kinds, cycle(_COLORS), strict=False))
    picture = Image.new("RGB", (_WIDTH, 2 * _HEIGHT + _LEGEND), _PAPER)
    titles = {"loss": "training loss", "val_dice": "validation Dice"}
    for place, (column, title) in enumerate(titles.items()):
        lines = []
        for name, rows in histories.items():
            known = [row for row in rows if row.get(column, "") != ""]
            points = [(float(row["steps"]), float(row[column])) for row in known]
            lines.append((colors[name.partition(" ")[0]], points))
        _panel(picture, place * _HEIGHT, title, lines)
    pen, x, font = ImageDraw.Draw(picture), _MARGIN, ImageFont.load_default(12)
    for name, color in colors.items():
        y = 2 * _HEIGHT + _LEGEND // 2
        pen.line([(x, y), (x + 24, y)], fill=color, width=3)
        pen.text((x + 30, y), name, _INK, font=font, anchor="lm")
        x += 60 + int(pen.textlength(name, font=font))
    return picture


def _panel(
    picture: Image.Image, top: int, title: str, lines: Sequence[tuple[str, Sequence[Point]]]
) -> None:
    """Draw one pair of axes with its coloured lines."""
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    left, right = _MARGIN, _WIDTH - 16
    upper, lower = top + 28, top + _HEIGHT - 28
    pen.text((left, top + 8), title, _INK, font=font, anchor="lt")
    points = [point for _, line in lines for point in line]
    if not points:
        return
    last = max(step for step, _ in points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    span = (high - low) or 1.0
    for tick in range(_TICKS + 1):
        part = tick / _TICKS
        y = lower - part * (lower - upper)
        pen.line([(left, y), (right, y)], fill=_GRID)
        pen.text((left - 6, y), f"{low + part * span:.3g}", _INK, font=font, anchor="rm")
        x = left + part * (right - left)
        pen.text((x, lower + 6), f"{part * last:.0f}", _INK, font=font, anchor="mt")
    for color, line in lines:
        places = [
            (left + step / last * (right - left), lower - (value - low) / span * (lower - upper))
            for step, value in line
        ]
        if len(places) > 1:
            pen.line(places, fill=color, width=2)
        for x, y in places if len(places) < 40 else ():
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)
