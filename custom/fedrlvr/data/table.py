"""One table of a data set: its rows, where each is, and whether it has the columns of the data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedrlvr.data.cells import CellError, cell, is_of
from fedrlvr.data.rows import RowError

_SHOWN = 12  # columns in a message


class SourceError(ValueError):
    """Data that cannot be read, or that are not the expected data set."""


@dataclass(frozen=True)
class Table:
    """One file, or one split of one configuration; `name` names it in errors. `rows` is a list of dicts or a
    `datasets.Dataset`. `columns` maps each name to its feature there, to None in a text file, which has no types.
    `lines` has the line of each row of a text file."""

    name: str
    rows: Sequence[dict]
    columns: Mapping[str, object]
    lines: Sequence[int] = ()

    def place(self, number: int) -> str:
        """Where row `number` is, counted from 0."""
        return f"{self.name}, line {self.lines[number]}" if self.lines else f"{self.name}, row {number}"

    def check_columns(self, dataset: str, columns: Mapping[str, str], optional: Mapping[str, str]) -> None:
        """Raises SourceError for no rows, a missing column, or one of another kind than expected."""
        where = f"{dataset}, {self.name}"
        for column in columns:
            if self.columns and column not in self.columns:
                raise SourceError(f"{where}: no column {column}; found {self.found()}; expected {', '.join(columns)}")
        for column, kind in (columns | optional).items():
            feature = self.columns.get(column)
            if feature is not None and not is_of(feature, kind):
                found = getattr(feature, "dtype", None) or type(feature).__name__
                raise SourceError(f"{where}, column {column}: expected {kind}, found {found}")
        if len(self.rows) == 0:
            raise SourceError(f"{where}: holds no row; expected at least one problem")

    def found(self) -> str:
        """The names of the columns, for a message."""
        names = sorted(self.columns)
        if not all(name.isprintable() and len(name) <= 40 for name in names):
            return f"{len(names)} columns without proper names (a CSV file names them in its first line)"
        return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def cells(row: Mapping[str, object], columns: Mapping[str, str], optional: Mapping[str, str]) -> dict:
    """A row's cells by column, without the optional ones that it leaves empty. Raises RowError."""
    found = {}
    for column, kind in (columns | optional).items():
        if column in optional and row.get(column) in (None, ""):
            continue
        try:
            found[column] = cell(row.get(column), kind)
        except CellError as error:
            raise RowError(f"column {column}: {error}") from None
    return found
