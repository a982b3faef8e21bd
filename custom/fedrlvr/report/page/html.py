"""The one place that makes HTML. Every value is escaped, and shown without characters that are not seen.

Pages hold no script and fetch nothing; their policy (Content-Security-Policy) forbids both, should anything slip in.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fedrlvr.printable import printable

OURS = Path(__file__).parent


def rendered(template: str, folder: Path = OURS, **values: object) -> str:
    """The page that `template`, a file in `folder`, makes of these values. It may extend and import our templates.
    Undefined names are errors."""
    environment = Environment(
        loader=FileSystemLoader([folder, OURS]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _shown(value: object) -> object:
    """As it comes into the page: what our own macros made stays, and all else is `printable` text."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
