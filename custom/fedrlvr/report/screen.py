"""The console on which everything is shown."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from fedrlvr.printable import printable


class Screen(Console):
    """Shows text as it is, in lines, tables and titles: brackets are no markup, :smile: is no emoji, and what would
    steer the terminal is left out, wherever the text comes from."""

    def __init__(self, **options):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's, which calls it for every part of a table, too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))
