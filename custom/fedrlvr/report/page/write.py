"""From a run's folder to its page."""

from collections.abc import Sequence
from pathlib import Path

import fedrlvr
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.report.page.compared import compared
from fedrlvr.report.page.content import MOST_TEXT, page_of
from fedrlvr.report.page.folder import read_run
from fedrlvr.report.page.html import rendered

PAGE = "report.html"


def write_page(
    folder: Path, out: Path | None = None, beside: Sequence[Path] = (), prepared: PreparedRun | None = None
) -> Path:
    """Write the page of the run in `folder`, compared with the runs `beside` it, to `out` (default: into the folder),
    and return where it is. Raises ValueError and OSError as `read_run` and `compared`, before anything is written. An
    earlier page is there until the new one is whole."""
    page = page_of(read_run(folder, prepared))
    others = compared([folder, *beside]) if beside else None
    about = {"page": page, "compared": others, "most_text": MOST_TEXT, "version": fedrlvr.__version__}
    text = rendered("run.html", **about)
    path = out or folder / PAGE
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    return new.replace(path)
