"""Colours of the page: one of seven for each model, and the colour scale of heat maps."""

from __future__ import annotations

from dataclasses import dataclass

COLOURS = 7  # distinguishable with any colour vision; an eighth model repeats the first colour with another symbol

_CIVIDIS = ("00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "dbc75b", "efd94a", "fee838")  # dark to light
_STEPS = 20
_BLACK, _WHITE = "#000000", "#ffffff"


@dataclass(frozen=True)
class Shade:
    """Background and text colour of a heat map cell; their contrast is at least 4.5 to 1."""

    background: str
    ink: str


def colour(slot: int) -> int:
    """Index of a slot's colour, 0 to 6."""
    return slot % COLOURS


def colour_scale() -> tuple[Shade, ...]:
    """The shades of a heat map from low to high values, perceptually uniform for any colour vision (cividis)."""
    return tuple(_shade(step / _STEPS) for step in range(_STEPS + 1))


def colour_step(value: float, top: float = 100.0) -> int:
    """Index in `colour_scale` of a value between 0 and `top`; values outside take the nearest end."""
    return round(_STEPS * min(max(value / top, 0.0), 1.0))


def _shade(fraction: float) -> Shade:
    position = fraction * (len(_CIVIDIS) - 1)
    index = min(int(position), len(_CIVIDIS) - 2)
    part = position - index
    pairs = zip(_rgb(_CIVIDIS[index]), _rgb(_CIVIDIS[index + 1]), strict=True)
    red, green, blue = (round(a + (b - a) * part) for a, b in pairs)
    dark = _luminance(red, green, blue) < 0.18  # at this luminance black and white text have equal contrast
    return Shade(f"#{red:02x}{green:02x}{blue:02x}", _WHITE if dark else _BLACK)


def _rgb(text: str) -> tuple[int, int, int]:
    return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)


def _luminance(red: int, green: int, blue: int) -> float:
    """Relative luminance, WCAG 2."""
    channels = [channel / 255 for channel in (red, green, blue)]
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
