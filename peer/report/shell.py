"""What the house's pages have in common: self-contained HTML files that open offline.

Texts in the logs may come from other peers, so nothing of them is trusted: templates escape everything, figures go in
as JSON that cannot close its script element, and a content security policy lets only the page's own scripts run and
nothing load.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from pathlib import Path

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup

from ...protocol.errors import StateError

_HERE = Path(__file__).parent


def write_page(html: str, path: Path) -> Path:
    """Put a page in the place of an earlier one. Raises StateError when it cannot be written."""
    temporary = path.with_name(f".{path.name}")
    try:
        temporary.write_text(html, encoding="utf-8", errors="replace")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StateError(f"cannot write {path}: {error.strerror}; make room there, or check its permissions") from None
    return path


def figure_json(figure: go.Figure) -> Markup:
    """A figure for the inside of a script element."""
    text = json.dumps(json.loads(figure.to_json()), separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def script(text: str) -> Markup:
    """A script of ours, as it stands."""
    return Markup(text.replace("\r\n", "\n"))


def policy(scripts: list[Markup]) -> str:
    """Only these scripts run, nothing is loaded; plotly styles its elements itself."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def read(name: str) -> str:
    """A file that lies beside this one."""
    return (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def template(name: str) -> jinja2.Template:
    """One of the templates beside this file."""
    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)
