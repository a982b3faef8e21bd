"""Rows of the known data sets as records of our problem files, without the fields `id` and `task`.

Columns are those of the data sets on the Hugging Face hub. Errors name a column and a reason and never quote a cell.
"""

import hashlib
import json
import re

from fedrlvr.tasks.candidate import BOX, last_box
from fedrlvr.types import Problem

LETTERS = ("A", "B", "C", "D")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?<=\s)(?P<bare>[^\s${}\\]+))")


class RowError(ValueError):
    """A row that cannot become a problem; the message begins with the column."""


class RowSkipped(RowError):
    """A row with a problem of a kind that has no checkable answer: left out and counted, not an error."""


def problem_id(dataset: str, problem: Problem) -> str:
    """The data set's name and 12 hex digits of SHA-256 over the question and its options. It does not depend on the
    row's place or on its answer, which may be corrected."""
    content = json.dumps([problem.prompt, problem.choices], ensure_ascii=False)
    return f"{dataset}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def boxed_answer(solution: str) -> str:
    """The content of the last `\\boxed{...}` or `\\fbox{...}` with balanced braces, or what follows `\\boxed ` where
    the braces were left out. Raises RowError."""
    boxes = list(_BOX.finditer(solution))
    if not boxes:
        raise RowError("column solution: no \\boxed{} in it")
    box = boxes[-1]
    if box["bare"]:
        return box["bare"].rstrip(".,;")
    content = last_box(BOX + solution[box.end() :])
    if content is None:
        raise RowError("column solution: its last \\boxed{ is never closed")
    return content


def math(row: dict) -> dict:
    answer = boxed_answer(_text(row, "solution"))
    return {"prompt": row["problem"], "answer": answer, "label": row["type"], "meta": {"level": row["level"]}}


def deepmath(row: dict) -> dict:
    """The label is the topic's first part below "Mathematics", as in "Mathematics -> Algebra -> Complex Numbers"."""
    parts = [part.strip() for part in _text(row, "topic").split("->")]
    label = parts[1] if len(parts) > 1 and parts[0] == "Mathematics" else parts[0]
    meta = {"topic": row["topic"], "difficulty": row["difficulty"]}
    return {"prompt": row["question"], "answer": row["final_answer"], "label": label, "meta": meta}


def gsm8k(row: dict) -> dict:
    _, mark, answer = _text(row, "answer").rpartition("####")
    if not mark:
        raise RowError("column answer: no #### before a final answer in it")
    return {"prompt": row["question"], "answer": answer.strip().replace(",", "")}


def medqa(row: dict) -> dict:
    """The label is the exam's step, where the data set has it."""
    options = row["options"] or {}
    if row["answer_idx"] not in LETTERS:
        raise RowError(f"column answer_idx: out of range: expected {', '.join(LETTERS)}")
    choices = [options.get(letter) for letter in LETTERS]
    label = row.get("meta_info") or ""
    return {"prompt": row["question"], "answer": row["answer_idx"], "choices": choices, "label": label}


def medmcqa(row: dict) -> dict:
    if row.get("choice_type") not in (None, "single"):
        raise RowSkipped("column choice_type: not a question with a single right option")
    if row["cop"] not in range(len(LETTERS)):
        raise RowError(f"column cop: out of range: expected 0 to {len(LETTERS) - 1} (a hidden label is -1)")
    choices = [row[f"op{letter.lower()}"] for letter in LETTERS]
    label = row["subject_name"] or ""
    return {"prompt": row["question"], "answer": LETTERS[row["cop"]], "choices": choices, "label": label}


def _text(row: dict, column: str) -> str:
    if not isinstance(row[column], str):
        raise RowError(f"column {column}: empty")
    return row[column]
