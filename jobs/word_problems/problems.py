"""The one-step problems of ASDiv: two numbers, both in the text, and one operation between them, which is the label.

python jobs/word_problems/problems.py data/asdiv.jsonl
python jobs/word_problems/problems.py data/asdiv.jsonl --source FILE       # of the same columns, without a network
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import load_dataset

HUB_ID, SPLIT = "EleutherAI/asdiv", "validation"
COLUMNS = ("body", "question", "formula", "answer")
OPERATIONS = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}
READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
FORMULA = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")


def rows(source: str) -> Iterable[dict]:
    path = Path(source)
    if path.suffix in READERS:
        return load_dataset(READERS[path.suffix], data_files=str(path), split="train")
    return load_dataset(source, split=SPLIT)


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
    data = rows(given.source)
    if missing := set(COLUMNS) - set(data.column_names):
        parser.error(f"--source {given.source}: no column {', '.join(sorted(missing))}; expected {', '.join(COLUMNS)}")
    problems = list(one_step(data))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    counts = ", ".join(f"{label} {count}" for label, count in Counter(p["label"] for p in problems).most_common())
    print(f"{given.out}: {len(problems)} of {len(data)} problems ({counts})")
