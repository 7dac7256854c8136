"""Small charts as SVG: lines over two axes, and bars of parts. No dependency, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from math import log10

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 180, 60, 52
_INK, _PALE = "#333", "#ddd"
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img"'
    ' font-family="sans-serif" font-size="13"><title>{title}</title><rect width="{w}" height="{h}" fill="#fff"/>'
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with ticks at the given numbers and their words."""

    label: str
    low: float
    high: float
    ticks: dict[float, str]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one; what is beyond is at the end."""
        scale: Callable[[float], float] = log10 if self.logarithmic else float
        low, high = scale(self.low), scale(self.high)
        return (scale(min(self.high, max(self.low, value))) - low) / (high - low)


@dataclass
class Chart:
    """Lines; `text` gives the file."""

    title: str
    x: Axis
    y: Axis
    parts: list[str] = field(default_factory=list)
    names: list[tuple[float, str, str]] = field(default_factory=list)
    """At the right edge: height, name, colour."""

    def line(
        self,
        points: Sequence[Point],
        colour: str,
        name: str = "",
        *,
        dots: bool = True,
        width: float = 2.0,
        lift: float = 8.0,
    ) -> None:
        """A line through points, with its name where it ends; `lift` is how far above it, inside of the chart."""
        if not points:
            return
        at = [(self._x(x), self._y(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>')
        if dots:
            self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in at]
        if name and at[-1][0] < WIDTH - _RIGHT - 1.0:
            self.parts.append(_text(at[-1][0] + 6, at[-1][1] - lift, name, colour=colour))
        elif name:
            self.names.append((at[-1][1], name, colour))

    def across(self, y: float, words: str) -> None:
        """A dashed line over the whole width, with words beside it."""
        at = self._y(y)
        self.parts.append(
            f'<line x1="{_LEFT}" y1="{at:.1f}" x2="{WIDTH - _RIGHT}" y2="{at:.1f}" stroke="{_INK}" '
            f'stroke-dasharray="6 4"/>{_text(WIDTH - _RIGHT + 10, at + 4, words)}'
        )

    def _x(self, value: float) -> float:
        return _LEFT + self.x.place(value) * (WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - self.y.place(value) * (HEIGHT - _TOP - _BOTTOM)

    @property
    def text(self) -> str:
        """The chart as SVG."""
        grid = []
        for value, words in self.y.ticks.items():
            at = self._y(value)
            grid.append(f'<line x1="{_LEFT}" y1="{at:.1f}" x2="{WIDTH - _RIGHT}" y2="{at:.1f}" stroke="{_PALE}"/>')
            grid.append(_text(_LEFT - 8, at + 4, words, "end"))
        for value, words in self.x.ticks.items():
            at = self._x(value)
            grid.append(f'<line x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{HEIGHT - _BOTTOM}" stroke="{_PALE}"/>')
            grid.append(_text(at, HEIGHT - _BOTTOM + 18, words, "middle"))
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        grid.append(_text(middle, HEIGHT - 12, self.x.label, "middle"))
        grid.append(_text(_LEFT - 55, _TOP - 12, self.y.label))
        return _file(self.title, [*grid, *self.parts, *_beside(self.names)])


def bars(
    title: str, groups: Sequence[tuple[str, Sequence[tuple[str, Sequence[float]]]]], legend: dict[str, str]
) -> str:
    """Bars of parts (0 to 1) that add up to 1, in groups; `legend` gives the parts' names and colours."""
    count = sum(len(rows) for _, rows in groups)
    wide, high = WIDTH - 2 * _LEFT - 20, (HEIGHT - _TOP - 40) / (count + len(groups))
    parts, y = [], float(_TOP)
    for group, rows in groups:
        parts.append(_text(_LEFT + 20, y + high * 0.8, group, weight="bold"))
        y += high
        for name, shares in rows:
            x = _LEFT + 20.0
            parts.append(_text(x - 8, y + high * 0.65, name, "end"))
            for share, colour in zip(shares, legend.values(), strict=True):
                size = share * wide
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{high * 0.85:.1f}" fill="{colour}"/>'
                )
                if share >= 0.06:
                    parts.append(_text(x + size / 2, y + high * 0.63, f"{share:.0%}", "middle", "#fff"))
                x += size
            y += high
    x = _LEFT + 20.0
    for name, colour in legend.items():
        parts.append(f'<rect x="{x:.1f}" y="{HEIGHT - 26}" width="14" height="14" fill="{colour}"/>')
        parts.append(_text(x + 20, HEIGHT - 14, name))
        x += 40 + 8 * len(name)
    return _file(title, parts)


def _beside(names: list[tuple[float, str, str]]) -> list[str]:
    """Names at the right edge, moved apart where lines end close together."""
    found, last = [], float("-inf")
    for height, name, colour in sorted(names):
        last = max(height + 4, last + 17)
        found.append(_text(WIDTH - _RIGHT + 10, last, name, colour=colour))
    return found


def _text(x: float, y: float, words: str, anchor: str = "start", colour: str = _INK, weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _file(title: str, parts: Sequence[str]) -> str:
    head = _HEAD.format(w=WIDTH, h=HEIGHT, title=escape(title))
    return "\n".join([head, _text(16, 22, title, weight="bold"), *parts, "</svg>", ""])
