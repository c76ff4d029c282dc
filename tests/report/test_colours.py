"""The colour scale of heat maps."""

import pytest

from robustvit.report import colours


@pytest.mark.parametrize("step", range(21))
def test_the_ink_of_the_heat_map_reads_on_every_colour(step: int) -> None:
    shade = colours.colour_scale()[step]
    light, dark = sorted((luminance(shade.background), luminance(shade.ink)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_heat_map_grows_lighter_with_the_value() -> None:
    lightness = [luminance(shade.background) for shade in colours.colour_scale()]
    assert lightness == sorted(lightness)
    assert [colours.colour_step(value) for value in (0.0, 50.0, 100.0, 120.0)] == [0, 10, 20, 20]
