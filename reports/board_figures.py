"""The curves of a suite as one SVG file that needs nothing else: panels of the report, with a key; the same bytes from the same numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from robustvit.report.charts import attack_panels, corruption_panels
from robustvit.report.colours import COLOURS
from robustvit.report.curves.certified_curves import certified_panels
from robustvit.report.curves.lesion_curves import lesion_panels
from robustvit.report.curves.transform_curves import transform_panels
from robustvit.report.figures import DrawnCurve, Panel, symbol
from robustvit.report.suite_results import SuiteResults

_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b4568c", "#c98a00", "#3a9bd9", "#5b616e")  # of the report on paper
_DARK = ("#5ab4f0", "#ff8f4d", "#3fd0a4", "#e08fbd", "#e6b94d", "#8fc9f5", "#a9b0bd")
_ACROSS, _GAP, _TITLE, _KEY = 4, 14.0, 20.0, 16.0
_CHARACTER = 6.2  # width of one of a title or a key
KINDS = {
    "corruptions": lambda suite: corruption_panels(suite, None),
    "attacks": attack_panels,
    "certified": certified_panels,
    "transforms": lambda suite: transform_panels(suite, None),
    "lesions": lambda suite: lesion_panels(suite, None),
}  # fmt: skip
"""The panels of a suite by what their curves are over."""


def figures(suite: SuiteResults) -> dict[str, str]:
    """The figures of a suite by kind, as the text of SVG files; those that it has no curves for are left out."""
    drawn = {kind: panels_of(suite) for kind, panels_of in KINDS.items()}
    return {kind: figure(panels, f"{suite.name}: {kind}") for kind, panels in drawn.items() if panels}


def figure(panels: Sequence[Panel], title: str) -> str:
    """Panels side by side, four in a row, with the models of their curves below. Colours follow the reader's light or dark scheme."""
    across = min(_ACROSS, len(panels))
    wide, tall = panels[0].width, max(one.height for one in panels) + _TITLE
    down = math.ceil(len(panels) / across)
    names = {one.slot: one.name for panel in panels for one in panel.series}
    width = across * wide + (across - 1) * _GAP
    key, height = _key(names, width, down * (tall + _GAP) + 10)
    body = [_panel(one, at % across * (wide + _GAP), at // across * (tall + _GAP)) for at, one in enumerate(panels)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">',
        f"<title>{escape(title)}; bands are 95 % intervals</title>", f"<style>{_style()}</style>", *body, *key, "</svg>", "",
    ])  # fmt: skip


def _panel(panel: Panel, x: float, y: float) -> str:
    shown = f"{panel.title} ({panel.tag})" if panel.tag else panel.title
    parts = [f'<g transform="translate({x:g} {y:g})">', f'<text class="title" x="0" y="12">{escape(_cut(shown, panel.width))}</text>']
    parts.append(f'<g transform="translate(0 {_TITLE:g})">')
    for row in panel.rows:
        parts.append(f'<path class="grid" d="M{panel.left} {row.at}H{panel.right}"/>')
        parts += [f'<text class="y" x="{panel.left - 6}" y="{row.at + 3.5}">{escape(row.text)}</text>'] if row.text else []
    parts += [f'<text class="x" x="{tick.at}" y="{panel.base + 21}">{escape(tick.text)}</text>' for tick in panel.columns if tick.text]
    if panel.axis:
        parts.append(f'<text class="x" x="{(panel.left + panel.right) / 2}" y="{panel.base + 36}">{escape(panel.axis)}</text>')
    return "\n".join([*parts, *map(_curve, panel.curves), "</g></g>"])


def _curve(curve: DrawnCurve) -> str:
    band = f'<path class="band" d="{curve.band}"/>' if curve.band else ""
    line = f'<path class="line" d="{curve.path}"/>' if curve.path else ""
    marks = "".join(f'<path class="mark {one.kind}" d="{one.path}"/>' for one in curve.marks)
    return f'<g class="s{curve.slot % COLOURS}">{band}{line}{marks}</g>'


def _key(names: dict[int, str], width: float, top: float) -> tuple[list[str], float]:
    """The models with their colours and symbols, in as many lines as they need, and where they end."""
    parts, x, y = [], 0.0, top
    for slot, name in names.items():
        needed = 24 + len(name) * _CHARACTER
        if x and x + needed > width:
            x, y = 0.0, y + _KEY
        mark = f'<path class="mark complete" d="{symbol(slot, x + 6, y - 4)}"/>'
        parts.append(f'<g class="s{slot % COLOURS}">{mark}<text class="key" x="{x + 14:g}" y="{y:g}">{escape(name)}</text></g>')
        x += needed
    return parts, y + 8


def _cut(text: str, width: float) -> str:
    room = int(width / _CHARACTER)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _style() -> str:
    shared = (
        "text{font:10.5px system-ui,sans-serif;fill:#5b616e}.title{font-size:12px;fill:#1c2230}.y{text-anchor:end}.x{text-anchor:middle}"
        ".grid{stroke:#d8dce3;stroke-width:1}.line{fill:none;stroke:currentColor;stroke-width:1.6}.band{fill:currentColor;opacity:.16}"
        ".mark{fill:currentColor;stroke:currentColor}.partial{fill:none}.failed{fill:none;stroke-width:1.6}"
    )
    dark = "text{fill:#aeb5c2}.title{fill:#eef1f6}.grid{stroke:#3a404c}"
    return f"{shared}{_colours(_LIGHT)}@media(prefers-color-scheme:dark){{{dark}{_colours(_DARK)}}}"


def _colours(shades: Sequence[str]) -> str:
    return "".join(f".s{slot}{{color:{shade}}}" for slot, shade in enumerate(shades))
