"""Tables of plain cells, which are shown as Markdown or, by `report.page.html`, as HTML."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def size(count: float) -> str:
    """Bytes in words of three or four digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"


@dataclass(frozen=True)
class Table:
    """The first column names rows; all others are numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        rule = ("---", *("---:" for _ in self.head[1:]))
        named = ((f"`{row[0]}`", *row[1:]) for row in self.rows)
        return "\n".join("| " + " | ".join(cells) + " |" for cells in (self.head, rule, *named))


@dataclass(frozen=True)
class Shaded:
    """A table of numbers that are told by their colour, too. `shades` are 0 to 1, None without a colour."""

    table: Table
    shades: tuple[tuple[float | None, ...], ...]

    @classmethod
    def of(cls, corner: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[float | None]]]):
        """Of shares, None where one is not known."""
        rows = list(rows)
        told = ((name, *("-" if value is None else f"{value:.2f}" for value in values)) for name, values in rows)
        return cls(Table((corner, *columns), tuple(told)), tuple(tuple(values) for _, values in rows))

    @classmethod
    def of_counts(cls, corner: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[int | None]]]):
        """The largest count is darkest. None is where there can be none."""
        rows = list(rows)
        largest = max((count for _, counts in rows for count in counts if count), default=1)
        told = ((name, *("" if count is None else f"{count:,}" for count in counts)) for name, counts in rows)
        shades = (tuple(None if count is None else count / largest for count in counts) for _, counts in rows)
        return cls(Table((corner, *columns), tuple(told)), tuple(shades))
