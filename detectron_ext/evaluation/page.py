"""HTML pages made from the templates."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jinja2
from matplotlib.figure import Figure


def page_template(name: str) -> jinja2.Template:
    """Return a template of the package. Values are escaped; a missing value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent / "templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def inline_image(figure: Figure) -> str:
    """Return a figure as a data URL, so that the page needs no other file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
