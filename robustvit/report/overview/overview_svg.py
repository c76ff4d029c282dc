"""An overview as SVG: inside a page, whose style sheet colours it, or as a file of its own that is light, dark and for print."""

from __future__ import annotations

from html import escape

from robustvit.report.colours import colour
from robustvit.report.figures import symbol
from robustvit.report.html.document import resource_text
from robustvit.report.overview.overview_layout import WIDTH, Dot, Label, OverviewFigure, Stroke


def overview_svg(figure: OverviewFigure, *, standalone: bool = False) -> str:
    """The figure as an SVG element; `standalone` as a file with a style sheet of its own."""
    drawn = "".join(_drawn(shape, standalone) for shape in figure.shapes)
    head = f'viewBox="0 0 {WIDTH:g} {figure.height:g}" role="img" aria-label="{escape(figure.title)}"'
    body = f'<g class="s{colour(figure.slot)}">{drawn}</g>'
    if not standalone:
        return f'<svg class="overview" {head}>{body}</svg>'
    style = resource_text("overview.css")
    size = f'xmlns="http://www.w3.org/2000/svg" width="{WIDTH:g}" height="{figure.height:g}" class="overview alone"'
    paper = f'<style>{style}</style><title>{escape(figure.title)}</title><rect class="paper" width="100%" height="100%"/>'
    return f"<svg {size} {head}>{paper}{body}</svg>\n"


def _drawn(shape: Label | Stroke | Dot, standalone: bool) -> str:
    if isinstance(shape, Stroke):
        return f'<path class="{shape.kind}" d="M{shape.x:g} {shape.y:g}L{shape.to_x:g} {shape.to_y:g}"/>'
    if isinstance(shape, Label):
        whole = f"<title>{escape(shape.whole)}</title>" if shape.whole not in ("", shape.text) else ""
        anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
        return f'<text class="{shape.kind}" x="{shape.x:g}" y="{shape.y:g}"{anchor}>{whole}{escape(shape.text)}</text>'
    first = shape.kind.startswith("first")
    path = f'<path class="dot {shape.kind}" d="{symbol(0 if first else 3, shape.x, shape.y, 5.5 if first else 4.2)}"'
    if standalone:
        return f"{path}><title>{escape(shape.tip)}</title></path>"
    return f'{path} data-tip="{escape(shape.tip)}"/>'
