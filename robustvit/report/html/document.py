"""An HTML document with inline style and script, and a content security policy that forbids network access."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from robustvit.report.colours import colour, colour_scale
from robustvit.report.figures import symbol
from robustvit.report.labels import metric_tip
from robustvit.spec.written.words import metric_name
from robustvit.version import __version__


def render_document(template: str, *, beside: bool, styles: Sequence[str] = (), **variables: Any) -> str:
    """A template of the report as an HTML document.

    beside: whether rows and images are in files beside it. styles: further style sheets. Undefined variables are errors, and every text is
    escaped.
    """
    style, script = Markup(page_style(*styles)), Markup(resource_text("script.js") + resource_text("samples.js"))
    policy = _policy(style, script, beside=beside)
    return template_environment().get_template(template).render(version=__version__, policy=policy, style=style, script=script, **variables)


def template_environment() -> jinja2.Environment:
    """The templates of the report, which escape whatever is put into them."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robustvit.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(symbol=symbol, colour=colour)
    environment.filters.update(metric_name=metric_name, metric_tip=metric_tip)
    return environment


def _policy(style: str, script: str, *, beside: bool) -> str:
    """The content security policy: the page's own style and script, inline images, nothing else. beside: and the files beside it."""
    # what the page's script loads is trusted by 'strict-dynamic'; 'self' holds where it is served, file: where it is opened from disk
    rows, images = (" 'strict-dynamic'", " 'self' file:") if beside else ("", "")
    return (
        f"default-src 'none'; style-src '{source_hash(style)}'; script-src '{source_hash(script)}'{rows}; img-src data:{images}; "
        "base-uri 'none'; form-action 'none'"
    )


def source_hash(text: str) -> str:
    """The source by which a content security policy allows an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page_style(*more: str) -> str:
    """The style of a page, with the shades of heat maps. more: further style sheets."""
    shades = "".join(f".h{i}{{background:{shade.background};color:{shade.ink}}}" for i, shade in enumerate(colour_scale()))
    return "".join(map(resource_text, ("style.css", *more))) + shades


def resource_text(name: str) -> str:
    """A style or script of the report."""
    return resources.files("robustvit.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")
