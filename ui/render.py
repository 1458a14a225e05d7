"""HTML from `templates/`, JavaScript and CSS from `static/`: Python gathers data, and no string of it is markup."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
CSS = sorted(STATIC.glob("*.css"))

TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
"""Everything is escaped, since an artifact may come from anybody."""


def render(template: str, **values: object) -> Markup:
    """The HTML of a template, as such to other templates too."""
    return Markup(TEMPLATES.get_template(template).render(values))


def script(*names: str) -> str:
    """The JavaScript of these files, one after the other, as gradio takes it (`js_on_load`, `js`)."""
    return "\n".join((STATIC / name).read_text("utf-8") for name in names)
