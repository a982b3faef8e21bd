"""The console on which everything is shown."""

import sys
from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from fedrlvr.printable import printable


class Screen(Console):
    """Shows text as it is, in lines, tables and titles: brackets are no markup, :smile: is no emoji, and what would
    steer the terminal is left out, wherever the text comes from."""

    def __init__(self, file: IO[str] | None = None, stderr: bool = False, **options):
        # The stream of this moment: while FLARE is called, what is printed goes to its log, and a live view goes on.
        file = file or (sys.stderr if stderr else sys.stdout)
        super().__init__(file=file, stderr=stderr, markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options) -> Text:
        """As rich's, which makes a `Text` of every string by this, before it measures it."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's. Everything comes through here in the end, also a `Text` that somebody else has made."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))
