"""The one-step problems of ASDiv: two numbers, both in the text, and one operation between them, which is the label.

python jobs/word_problems/problems.py data/asdiv.jsonl
python jobs/word_problems/problems.py data/asdiv.jsonl --source FILE       # of the same columns, without a network
"""

import argparse
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedrlvr.data.cells import TEXT
from fedrlvr.data.problems import ProblemFileError
from fedrlvr.data.rows import RowError
from fedrlvr.data.table import SourceError, Table, cells
from fedrlvr.data.tables import Wanted, load_tables

HUB_ID, SPLIT, ONE_FILE = "EleutherAI/asdiv", "validation", "train"
COLUMNS = dict.fromkeys(("body", "question", "formula", "answer"), TEXT)
OPERATIONS = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}
FORMULA = re.compile(r"([0-9]+)([-+*/])([0-9]+)=([0-9]+)")


def rows(source: str) -> list[dict]:
    """Of a file, a directory or a hub id. Raises SourceError and ProblemFileError as `load_tables`, and SourceError for
    a directory without the split and for a cell that is no text."""
    with tempfile.TemporaryDirectory() as cache:
        splits = load_tables(source, Wanted((), {SPLIT, ONE_FILE}, COLUMNS), cache).splits
        tables = splits.get(SPLIT) or splits.get(ONE_FILE)
        if not tables:
            found = ", ".join(sorted(splits)) or "none"
            raise SourceError(f"{source}: no split {SPLIT}; found {found}; name the file itself as the source")
        return [row for table in tables for row in _texts(table)]


def _texts(table: Table) -> Iterator[dict]:
    table.check_columns("asdiv", COLUMNS, {})
    for number, row in enumerate(table.rows):
        try:
            yield cells(row, COLUMNS, {})
        except RowError as error:
            raise SourceError(f"{table.place(number)}, {error}") from None


def one_step(rows: Iterable[dict]) -> Iterator[dict]:
    """In the format of problem files. Units in a formula, such as `8 (hour)*60 (min/hour)`, are no part of it."""
    for number, row in enumerate(rows):
        text = f"{row['body'].strip()} {row['question'].strip()}"
        step = FORMULA.fullmatch(re.sub(r"\([^)]*\)|\s", "", row["formula"]))
        if step is None or sorted(re.findall(r"\d+", text)) != sorted([step[1], step[3]]):
            continue
        if row["answer"].split()[0] == step[4]:
            about = {"task": "math", "label": OPERATIONS[step[2]]}
            yield {"id": f"asdiv-{number}", "prompt": text, "answer": step[4], **about}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the problem file to write")
    parser.add_argument("--source", default=HUB_ID, help="a file, or a hub id (default: %(default)s)")
    given = parser.parse_args()
    if given.out.exists():
        parser.error(f"{given.out} exists; choose another file")
    try:
        data = rows(given.source)
    except (SourceError, ProblemFileError) as error:
        parser.error(f"--source: {error}")
    problems = list(one_step(data))
    if not problems:
        parser.error(f"--source: none of {len(data)} problems has one step between two numbers, both in its text")
    try:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    except OSError as error:
        parser.error(f"{given.out}: cannot be written ({error.strerror}); choose another file")
    counts = ", ".join(f"{label} {count}" for label, count in Counter(p["label"] for p in problems).most_common())
    print(f"{given.out}: {len(problems)} of {len(data)} problems ({counts})")
