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
from robustvit.report.labels import metric_name, metric_tip
from robustvit.version import __version__

_STYLES = ("style.css",)


def render_document(template: str, *, beside: bool, styles: Sequence[str] = (), **variables: Any) -> str:
    """A template of the report as an HTML document.

    beside: whether rows and images are in files beside it. styles: further style sheets. Undefined variables are errors, and every text is
    escaped.
    """
    shades = "".join(f".h{i}{{background:{shade.background};color:{shade.ink}}}" for i, shade in enumerate(colour_scale()))
    style = Markup("".join(map(_text, (*_STYLES, *styles))) + shades)
    script = Markup(_text("script.js") + _text("samples.js"))
    policy = _policy(style, script, beside=beside)
    return _environment().get_template(template).render(version=__version__, policy=policy, style=style, script=script, **variables)


def _environment() -> jinja2.Environment:
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
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'{rows}; img-src data:{images}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(name: str) -> str:
    return resources.files("robustvit.report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")
