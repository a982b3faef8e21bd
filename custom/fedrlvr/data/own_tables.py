"""Tables of the user's own, in CSV, parquet, arrow or JSON: the user says which column holds what."""

import tempfile
from collections.abc import Mapping
from itertools import takewhile

from fedrlvr.data.cells import ANSWER, NAME, OPTION, TEXT, TEXTS, CellError, cell
from fedrlvr.data.problems import visible
from fedrlvr.data.rows import RowError
from fedrlvr.data.sources import Layout, Source
from fedrlvr.data.table import SourceError
from fedrlvr.json_text import shown
from fedrlvr.tasks.choice import LETTERS

NEEDED, ROLES = ("question", "answer"), ("question", "answer", "choices", "label", "id")
JOIN = "+"  # between the columns of a question's options
OPTIONAL = f"choices=NAME (or NAME{JOIN}NAME{JOIN}...), label=NAME and id=NAME"
FORM = f"question=NAME,answer=NAME, and if there are any {OPTIONAL}"

Columns = Mapping[str, tuple[str, ...]]  # the names of the columns by what they hold


def columns_of(text: str) -> Columns:
    """What `FORM` says. Raises SourceError."""
    found: dict[str, tuple[str, ...]] = {}
    for part in text.split(","):
        role, _, names = (piece.strip() for piece in part.partition("="))
        if role not in ROLES or not names:
            raise SourceError(f"--columns: {shown(part.strip())}: expected {FORM}")
        if role in found:
            raise SourceError(f"--columns: {role} is named twice")
        found[role] = tuple(name.strip() for name in names.split(JOIN)) if role == "choices" else (names,)
    for role in NEEDED:
        if role not in found:
            raise SourceError(f"--columns: names no {role}; expected {FORM}")
    named = [name for names in found.values() for name in names]
    if "" in named:
        raise SourceError(f"--columns: choices: expected a name before and after each {JOIN}")
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise SourceError(f"--columns: column {shown(twice)} stands there twice; expected each once")
    return found


def names_in(source: str) -> str:
    """The names of the columns in the files of a table, as text. Raises as `load_tables`."""
    from fedrlvr.data.tables import Wanted, load_tables  # takes a second to import

    with tempfile.TemporaryDirectory(prefix="fedrlvr-") as cache:
        loaded = load_tables(source, Wanted((), ("train", "test"), ()), cache)
        tables = [table for tables in loaded.splits.values() for table in tables]
    return "; ".join(dict.fromkeys(table.found() for table in tables)) or "no columns"


def own_source(columns: Columns, task: str) -> Source:
    """Such a table as a data set of one layout. An empty label, and the last of several columns of options, may be
    left out in a row. The right option is given by its letter, its number or its whole text."""
    (question,), (answer,) = columns["question"], columns["answer"]
    label, choices, ids = columns.get("label", ()), columns.get("choices", ()), columns.get("id", ())
    kinds = {question: TEXT, answer: ANSWER} | dict.fromkeys(choices, NAME if choices[1:] else TEXTS)

    def record(row: dict) -> dict:
        made = {"prompt": row[question], "label": row[label[0]] if label else ""}
        made |= {"id": row[ids[0]]} if ids else {}
        if not choices:
            return made | {"golds": [row[answer]]}
        texts = _options(row, choices) if choices[1:] else row[choices[0]]
        return made | {"choices": texts, "answer": _right(row[answer], texts, answer)}

    kinds |= dict.fromkeys(label, NAME) | dict.fromkeys(ids, ANSWER)
    return Source("", task, (Layout(record, answer, kinds),))


def _options(row: dict, columns: tuple[str, ...]) -> list[str]:
    texts = list(takewhile(bool, (row[name] for name in columns)))
    if any(row[name] for name in columns[len(texts) :]):
        raise RowError(f"column {columns[len(texts)]}: empty, and a later option is not")
    return texts


def _right(answer: str, texts: list[str], column: str) -> int | str:
    """The number or letter of the right option. Raises RowError where the answer is neither, nor one option's text,
    and where it may be meant in two ways: with the options B and A, `A` may be the first or the second."""
    same = [LETTERS[number] for number, text in enumerate(texts[: len(LETTERS)]) if visible(text) == visible(answer)]
    try:
        named = cell(answer, OPTION)
    except CellError:
        if len(same) != 1:
            raise RowError(f"column {column}: neither a letter, nor a number, nor the text of one option") from None
        return same[0]
    if same and same != [named]:
        raise RowError(f"column {column}: a letter or number that is the text of another option, too; use letters only")
    return named
