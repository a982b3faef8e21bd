"""Tables in JSON and CSV files, read as they are written: a cell that says NA, 007 or 1.0 stays that text.

Pandas and pyarrow guess types, turn NA into nothing, let the last of two equal keys win, and name no line.
"""

import csv
from collections.abc import Container, Iterator
from pathlib import Path

from fedrlvr.data.problems import ProblemFileError, json_lines, lines_in
from fedrlvr.data.table import SourceError, Table
from fedrlvr.json_text import JsonError, json_array, not_utf8, shown

TEXT_FILES = (".json", ".jsonl", ".csv")
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def read_text_table(path: Path, name: str, kind: str, wanted: Container[str]) -> Table:
    """The `wanted` columns of a file of one of TEXT_FILES. Raises SourceError and ProblemFileError, with the line."""
    names: dict[str, None] = {}
    lines, rows = [], []
    for line, row in _csv_rows(path) if kind == ".csv" else _json_rows(path):
        if not isinstance(row, dict):
            raise SourceError(f"{path}, line {line}: expected a JSON object, found {type(row).__name__}")
        names |= dict.fromkeys(row)
        lines.append(line)
        rows.append({column: value for column, value in row.items() if column in wanted})
    return Table(name, rows, names, lines)


def _json_rows(path: Path) -> Iterator[tuple[int, object]]:
    """(line, row) of JSON Lines, or of one array of rows."""
    first = next((text for _, line in lines_in(path) if (text := line.strip())), b"")
    return _array_rows(path) if first.startswith(b"[") else json_lines(path)


def _array_rows(path: Path) -> Iterator[tuple[int, object]]:
    try:
        yield from json_array("".join(_decoded(path)))
    except JsonError as error:
        raise SourceError(f"{path}, {error}") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, dict]]:
    """(line, row) of each line that is not blank, after the first, which names the columns."""
    reader = csv.reader(_decoded(path), strict=True)
    begins = 1
    try:
        header = next(reader, [])
        if twice := next((name for name in header if header.count(name) > 1), None):
            raise SourceError(f"{path}, line 1: two columns are called {shown(twice)}")
        other = [name for sign, name in OTHER_SEPARATORS.items() if len(header) == 1 and sign in header[0]]
        if other:
            raise SourceError(f"{path}, line 1: {other[0]} between the names, expected commas; save it with commas")
        begins = reader.line_num + 1
        for values in reader:
            if values and len(values) != len(header):
                found = f"{len(values)} cells, expected {len(header)} as in the first line"
                raise SourceError(f"{path}, line {begins}: {found}; quote a cell that holds commas or line ends")
            if values:
                yield begins, dict(zip(header, values, strict=True))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise SourceError(f"{path}, line {begins}: not valid CSV ({error})") from None


def _decoded(path: Path) -> Iterator[str]:
    for number, line in lines_in(path):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise ProblemFileError(f"{path}, line {number}: {not_utf8(error)}") from None
