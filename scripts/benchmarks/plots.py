"""Draw plots of time and memory against slices and classes, as plain SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360, 240, 56, 40, 28
_COLOURS = ("#1b6ca8", "#c44e52", "#55803a")


@dataclass(frozen=True)
class Line:
    """One line of a panel: a name and its points."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    x: str
    lines: tuple[Line, ...]


def write_svg(path: Path, panels: Sequence[Panel]) -> None:
    """Write panels side by side, each from 0 on both axes."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH * len(panels)}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="11" fill="#333">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for index, panel in enumerate(panels):
        parts.append(f'<g transform="translate({index * _WIDTH} 0)">{_panel(panel)}</g>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def _panel(panel: Panel) -> str:
    """Return one plot."""
    points = [point for line in panel.lines for point in line.points]
    most_x = _round_up(max(x for x, _ in points))
    most_y = _round_up(max(y for _, y in points))
    wide, tall = _WIDTH - _LEFT - 16, _HEIGHT - _BOTTOM - _TOP

    def at(x: float, y: float) -> tuple[float, float]:
        """Return the position of a point on the page."""
        return _LEFT + wide * x / most_x, _TOP + tall * (1 - y / most_y)

    parts = [f'<text x="{_LEFT}" y="16" font-weight="bold">{panel.title}</text>']
    for step in range(5):
        value = most_y * step / 4
        _, y = at(0, value)
        parts += [
            f'<line x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>',
        ]
    for x in sorted({x for x, _ in points}):
        left, bottom = at(x, 0)
        parts.append(
            f'<text x="{left:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{x:g}</text>'
        )
    parts.append(
        f'<text x="{_LEFT + wide / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{panel.x}</text>'
    )
    for index, line in enumerate(panel.lines):
        colour = _COLOURS[index % len(_COLOURS)]
        places = [at(*point) for point in line.points]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(
            f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(
            f'<text x="{_LEFT + 8}" y="{_TOP + 12 + 14 * index}" fill="{colour}">{line.name}</text>'
        )
    return "\n".join(parts)


def _round_up(value: float) -> float:
    """Round up to 1, 2, 4, 5 or 8 times a power of ten."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * step for step in (1, 2, 4, 5, 8, 10) if power * step >= value)
