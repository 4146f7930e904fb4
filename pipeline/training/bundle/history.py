"""How a training went: as CSV, and as a picture of its curves."""

import csv
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from itertools import cycle
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from voxtile.machine.files import replacing
from voxtile.models.spec import Label
from voxtile.training.fitting.checkpoint import Row

_WIDTH, _HEIGHT, _MARGIN, _LEGEND = 960, 300, 56, 24
_PAPER, _INK, _GRID = (255, 255, 255), (40, 40, 40), (222, 222, 222)
# Okabe and Ito's colours, which most colour-blind people tell apart.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_TICKS = 4

Point = tuple[float, float]


def history_table(histories: Mapping[str, Sequence[Row]], labels: Sequence[Label]) -> str:
    """Return the rows of every network as CSV; an epoch that was not validated has empty cells.

    Parameters
    ----------
    histories : mapping of str to sequence of dict
        By the name of the network.
    labels : sequence of Label
    """
    columns = ["network", "epoch", "steps", "seconds", "learning_rate", "loss", "waiting"]
    columns += ["val_dice", *(f"val_dice_{label.value}" for label in labels)]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for name, rows in histories.items():
        writer.writerows({"network": name, **row} for row in rows)
    return text.getvalue()


def write_curves(path: Path, histories: Mapping[str, Sequence[Row]]) -> None:
    """Draw loss and validation Dice over the steps, a line for each network, as PNG.

    Raises
    ------
    EnvironmentFault
        If the disk refuses.
    """
    content = BytesIO()
    draw_curves(histories).save(content, "PNG", compress_level=9)
    with replacing(path) as file:
        file.write(content.getvalue())


def draw_curves(histories: Mapping[str, Sequence[Row]]) -> Image.Image:
    """Return the picture that `write_curves` writes: the loss above, the Dice below.

    Networks of the same views, ``axial`` and ``axial 2``, share a colour.
    """
    kinds = dict.fromkeys(name.partition(" ")[0] for name in histories)
    colors = dict(zip(kinds, cycle(_COLORS), strict=False))
    picture = Image.new("RGB", (_WIDTH, 2 * _HEIGHT + _LEGEND), _PAPER)
    for place, (column, title) in enumerate(
        (("loss", "training loss"), ("val_dice", "validation Dice"))
    ):
        lines = [
            (
                colors[name.partition(" ")[0]],
                [
                    (float(row["steps"]), float(row[column]))
                    for row in rows
                    if row.get(column, "") != ""
                ],
            )
            for name, rows in histories.items()
        ]
        _panel(picture, place * _HEIGHT, title, lines)
    pen, x = ImageDraw.Draw(picture), _MARGIN
    for name, color in colors.items():
        y = 2 * _HEIGHT + _LEGEND // 2
        pen.line([(x, y), (x + 24, y)], fill=color, width=3)
        pen.text((x + 30, y), name, _INK, font=_font(), anchor="lm")
        x += 60 + int(pen.textlength(name, font=_font()))
    return picture


def _panel(
    picture: Image.Image, top: int, title: str, lines: Sequence[tuple[str, Sequence[Point]]]
) -> None:
    """Draw one pair of axes with its lines, each of a colour."""
    pen = ImageDraw.Draw(picture)
    left, right = _MARGIN, _WIDTH - 16
    upper, lower = top + 28, top + _HEIGHT - 28
    pen.text((left, top + 8), title, _INK, font=_font(), anchor="lt")
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
        pen.text((left - 6, y), f"{low + part * span:.3g}", _INK, font=_font(), anchor="rm")
        x = left + part * (right - left)
        pen.text((x, lower + 6), f"{part * last:.0f}", _INK, font=_font(), anchor="mt")
    for color, line in lines:
        places = [
            (
                left + step / last * (right - left),
                lower - (value - low) / span * (lower - upper),
            )
            for step, value in line
        ]
        if len(places) > 1:
            pen.line(places, fill=color, width=2)
        for x, y in places if len(places) < 40 else ():
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, which needs no file of the system."""
    return ImageFont.load_default(12)
