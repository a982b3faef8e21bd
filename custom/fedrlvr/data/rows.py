"""Rows of the known data sets as records of our problem files, without the fields `id` and `task`.

Columns are those of the data sets where they are published; cells are as `cells.cell` gives them. A record has `golds`,
all answers that the row gives as final, or it has `choices`; then `answer` is the letter or number of the right one and
`text` its text, if the row has that, too. Errors name a column and a reason and never quote a cell.
"""

import hashlib
import json
import re
from itertools import pairwise

from fedrlvr.tasks.candidate import BOX, boxes, last_box
from fedrlvr.types import Problem

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?<=\s)(?P<bare>[^\s${}\\]+))")
_AND = re.compile(r"[^.]{0,20}\band\b[^.]{0,20}", re.DOTALL)
_THOUSANDS = re.compile(r"[^\d,]*[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?[^\d,]*")
_UNIT = re.compile(r"\s+\([^()]*\)$")
_PLACEHOLDER = re.compile(r"\bN_\d\d\b|\bnumber\d\b")


class RowError(ValueError):
    """A row that cannot become a problem; the message begins with the column."""


class TwoAnswers(RowError):
    """A row with two final answers that are not equal, or with the parts of one in several boxes: left out and named,
    as nobody knows which one counts, or how the parts belong together."""


class RowSkipped(RowError):
    """A row with a problem of a kind that has no checkable answer: left out and counted, not an error."""


def problem_id(dataset: str, problem: Problem) -> str:
    """The data set's name and 12 hex digits of SHA-256 over the question and its options. It does not depend on the
    row's place or on its answer, which may be corrected."""
    content = json.dumps([problem.prompt, problem.choices], ensure_ascii=False)
    return f"{dataset}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def boxed_answers(solution: str) -> list[str]:
    """The content of each `\\boxed{...}` or `\\fbox{...}` with balanced braces, or what follows `\\boxed ` where the
    braces were left out. Raises RowError where there is none, or the last is never closed."""
    boxes = list(_BOX.finditer(solution))
    if not boxes:
        raise RowError("column solution: no \\boxed{} in it")
    ends = [*(box.start() for box in boxes[1:]), len(solution)]
    found = [
        box["bare"].rstrip(".,;") if box["bare"] else last_box(BOX + solution[box.end() : end])
        for box, end in zip(boxes, ends, strict=True)
    ]
    if found[-1] is None:
        raise RowError("column solution: its last \\boxed{ is never closed")
    return [content for content in found if content is not None]  # one that is not closed has another in it


def _in_parts(solution: str) -> bool:
    """Whether "and" joins two boxes, whose contents may be the same: `x = \\boxed{7}$ and $y = \\boxed{7}`."""
    places = sorted(boxes(solution))
    between = (solution[end + 1 : start - len(BOX)] for (_, end), (start, _) in pairwise(places) if end < start)
    return any(map(_AND.fullmatch, between))


def math(row: dict) -> dict:
    golds = boxed_answers(row["solution"])
    if _in_parts(row["solution"]):
        raise TwoAnswers("column solution: the parts of its answer are in several boxes")
    return {"prompt": row["problem"], "golds": golds, "label": row["type"], "meta": {"level": row["level"]}}


def deepmath(row: dict) -> dict:
    """The label is the topic's first part below "Mathematics", as in "Mathematics -> Algebra -> Complex Numbers"."""
    parts = [part.strip() for part in row["topic"].split("->")]
    label = parts[1] if len(parts) > 1 and parts[0] == "Mathematics" else parts[0]
    meta = {"topic": row["topic"], "difficulty": row["difficulty"]}
    return {"prompt": row["question"], "golds": [row["final_answer"]], "label": label, "meta": meta}


def gsm8k(row: dict) -> dict:
    _, *finals = row["answer"].split("####")
    if not finals:
        raise RowError("column answer: no #### before a final answer in it")
    golds, _, after = zip(*(final.strip().partition("\n") for final in finals), strict=True)
    if after[-1]:
        raise RowError("column answer: more than one line after ####")
    return {"prompt": row["question"], "golds": [_number(gold, "answer") for gold in golds]}


def svamp(row: dict) -> dict:
    prompt = _story(row["Body"], row["Question"])
    return {"prompt": prompt, "golds": [_number(row["Answer"], "Answer")], "label": row.get("Type", "")}


def asdiv(row: dict) -> dict:
    """An answer such as "9 (apples)" is that without the unit."""
    if ";" in row["answer"]:
        raise RowError("column answer: several answers, expected one")
    golds = [_number(_UNIT.sub("", row["answer"].strip()), "answer")]
    return {"prompt": _story(row["body"], row["question"]), "golds": golds, "label": row.get("solution_type", "")}


def mawps(question: str, answer: str):
    """The reader of rows with these two columns; MAWPS is around under several pairs of names."""

    def record(row: dict) -> dict:
        if _PLACEHOLDER.search(row[question]):
            raise RowError(f"column {question}: has placeholders such as N_00 where its numbers were")
        return {"prompt": row[question], "golds": [_number(row[answer], answer)]}

    return record


def medqa(row: dict) -> dict:
    """The label is the exam's step, where the data set has it."""
    text = {"text": row["answer"]} if "answer" in row else {}
    label = row.get("meta_info", "")
    return {"prompt": row["question"], "answer": row["answer_idx"], "choices": row["options"], "label": label} | text


def medmcqa(row: dict) -> dict:
    if row.get("choice_type", "") not in ("", "single"):
        raise RowSkipped("column choice_type: not a question with a single right option")
    choices = [row[name] for name in ("opa", "opb", "opc", "opd")]
    return {"prompt": row["question"], "answer": row["cop"], "choices": choices, "label": row["subject_name"]}


def mmlu(row: dict) -> dict:
    label = row.get("subject", "")
    return {"prompt": row["question"], "answer": row["answer"], "choices": row["choices"], "label": label}


def _story(body: str, question: str) -> str:
    """A word problem's facts, then its question. Some facts lack the full stop."""
    facts = body.strip()
    return f"{facts}{'.' if facts[-1:].isalnum() else ''} {question.strip()}"


def _number(text: str, column: str) -> str:
    """The answer without thousands separators. Raises RowError for other commas."""
    text = text.strip()
    if "," in text and not _THOUSANDS.fullmatch(text):
        raise RowError(f"column {column}: commas that do not separate thousands; expected one answer")
    return text.replace(",", "")
