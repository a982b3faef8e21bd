"""Problem files: JSON Lines, one problem per line.

| field | |
| --- | --- |
| `id` | a name, unique in the file |
| `prompt` or `messages` | the question as text, or as a list of {"role", "content"} that ends with the user's turn |
| `answer` | text; the letter where there are choices |
| `task` | optional: the task it is for |
| `choices` | optional: the options of a multiple-choice question in their order, as a list of texts |
| `label` | optional, a name: what results are broken down by |
| `meta` | optional: an object of the owner's notes, which nothing reads |

A name has at most 200 characters, none of them a control or otherwise not shown: names come to stand in other
people's tables and pictures. Every error names file, line and field, and never quotes their content: errors reach the
server, problems must not.
"""

import codecs
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from fedrlvr.json_text import JsonError, from_json, shown
from fedrlvr.printable import check_name
from fedrlvr.tasks import Task
from fedrlvr.tasks.choice import LETTERS
from fedrlvr.tasks.task import NotOfThisTask
from fedrlvr.types import MAX_LABELS, Message, Problem

FIELDS = ("id", "prompt", "messages", "answer", "task", "choices", "label", "meta")
ROLES = ("system", "user", "assistant")
MAX_CHOICES = 26  # letters
OVERALL = "overall"  # among the scores by label, those of all together
MAX_LINE = 2**26  # bytes

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))  # soft hyphens, blanks without a width
_BLANKS = re.compile(r"(?<!\d) | (?!\d)")
_SURROGATE = re.compile("[\ud800-\udfff]")


class ProblemFileError(ValueError):
    """A problem file, or the manifest of some, that cannot be used."""


def read_problems(path: Path, task: Task) -> list[Problem]:
    """A file's problems, checked. Raises ProblemFileError as `problems_in` and `check_gold`, and for a repeated id."""
    problems: dict[str, Problem] = {}
    for where, problem in problems_in(path):
        if problem.id in problems:
            raise ProblemFileError(f"{where}, field id: is on an earlier line already")
        check_gold(problem, task, where)
        problems[problem.id] = problem
    return list(problems.values())


def read_measured(path: Path, task: Task) -> list[Problem]:
    """As `read_problems`, of a file that results are told of: also raises ProblemFileError for too many labels."""
    problems = read_problems(path, task)
    labels = len({problem.label for problem in problems})
    if labels > MAX_LABELS:
        raise ProblemFileError(f"{path}: has {labels:,} labels; results are told of at most {MAX_LABELS:,}")
    return problems


def task_in(path: Path) -> str | None:
    """The task that a file's first problem names, None if it names none. Raises ProblemFileError."""
    _, problem = next(problems_in(path))
    return problem.task or None


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(problem_record(problem), ensure_ascii=False) + "\n" for problem in problems]
    path.write_text("".join(lines), encoding="utf-8")


def problem_record(problem: Problem) -> dict:
    """A problem as the object of its line in a file, without empty fields."""
    record = asdict(problem)
    return {name: record[name] for name in FIELDS if record[name]}


def problem_hash(problem: Problem) -> str:
    """SHA-256 of a problem's record."""
    return hashlib.sha256(json.dumps(problem_record(problem), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def content_hash(path: Path) -> str:
    """SHA-256 over what the problems of a file ask and what is right, whatever their order, ids, labels and notes.
    Raises ProblemFileError as `read_records`."""
    asked = ("prompt", "messages", "choices", "answer")
    hashes = set()
    for _, record in read_records(path):
        content = {name: record[name] for name in asked if record.get(name)} if isinstance(record, dict) else record
        hashes.add(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest())
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()


def manifest_hash(problems: Iterable[Problem]) -> str:
    """SHA-256 over the problems' hashes in their order: sites with different hashes have different public sets."""
    return hashlib.sha256("".join(problem_hash(problem) + "\n" for problem in problems).encode()).hexdigest()


def problems_in(path: Path) -> Iterator[tuple[str, Problem]]:
    """(where, problem) of each line that is not blank. Raises ProblemFileError as `read_records`, for a file without a
    problem, and for a missing, unknown or ill-formed field."""
    empty = True
    for where, record in read_records(path):
        empty = False
        yield where, parse_problem(record, where)
    if empty:
        raise ProblemFileError(f"{path}: holds no problem; expected one JSON object per line with {', '.join(FIELDS)}")


def read_records(path: Path) -> Iterator[tuple[str, object]]:
    """(where, value), and raises, as `json_lines`."""
    return ((f"{path}, line {number}", value) for number, value in json_lines(path))


def json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """(number, value) of each line that is not blank, read one by one. Raises ProblemFileError as `lines_in`, and for a
    line that is not JSON."""
    for number, line in lines_in(path):
        if line.strip():
            try:
                yield number, from_json(line)
            except JsonError as error:
                raise ProblemFileError(f"{path}, line {number}: {error}") from None


def lines_in(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, line) of each line, without the byte order mark that some editors write first; a file whose
    name ends in .gz is unpacked. Raises ProblemFileError for a file that cannot be read, and a line that is longer than
    MAX_LINE bytes."""
    try:
        # Not as text: it would also be split inside JSON texts.
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
                if len(line) > MAX_LINE:
                    raise ProblemFileError(
                        f"{path}, line {number}: longer than {MAX_LINE:,} bytes; write one row a line"
                    )
                yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except (OSError, EOFError, zlib.error) as error:
        raise ProblemFileError(f"{path}: cannot be read: {error}") from None


def parse_problem(record: object, where: str) -> Problem:
    """One record as a problem; `where` begins every error. Raises ProblemFileError."""
    if not isinstance(record, dict):
        raise ProblemFileError(f"{where}: expected a JSON object, found {type(record).__name__}")
    unknown = sorted(set(record) - set(FIELDS))
    if unknown:
        raise ProblemFileError(f"{where}, field {shown(unknown[0])}: unknown; known are {', '.join(FIELDS)}")
    if "prompt" in record and "messages" in record:
        raise ProblemFileError(f"{where}, field messages: a problem has a prompt or messages, not both")
    required = {"id", "answer"} | (set() if "messages" in record else {"prompt"})
    for name in ("id", "prompt", "answer", "label", "task"):
        if name in record:
            _check_text(record[name], f"{where}, field {name}", name in required)
        elif name in required:
            raise ProblemFileError(f"{where}, field {name}: missing")
    for name in ("id", "label", "task"):
        check_named(record.get(name, ""), f"{where}, field {name}")
    if record.get("label") == OVERALL:
        raise ProblemFileError(f"{where}, field label: results of all labels together are called {OVERALL}")
    if not isinstance(record.get("meta", {}), dict):
        raise ProblemFileError(f"{where}, field meta: expected an object, found {type(record['meta']).__name__}")
    parsed = {
        "prompt": record.get("prompt", ""),
        "choices": _choices(record.get("choices", []), record["answer"], f"{where}, field choices"),
        "messages": _messages(record["messages"], f"{where}, field messages") if "messages" in record else (),
    }
    return Problem(**(record | parsed))


def _choices(values: object, answer: str, where: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ProblemFileError(f"{where}: expected a list of texts, found {type(values).__name__}")
    for number, value in enumerate(values, start=1):
        _check_text(value, f"{where}, option {number}", required=True)
    if values and not 2 <= len(values) <= MAX_CHOICES:
        raise ProblemFileError(f"{where}: expected 2 to {MAX_CHOICES} options, found {len(values)}")
    texts = list(map(visible, values))
    right = dict(zip(LETTERS, texts, strict=False)).get(answer.strip())
    if texts.count(right) > 1:  # two wrong options may be the same: neither is taken for the right one
        raise ProblemFileError(f"{where}: the right option and another are the same, but for blanks")
    return tuple(values)


def visible(text: str) -> str:
    """A text without what no reader sees: blanks of any kind, but between digits. Case stays: Aa and AA are two options
    of a question about genes."""
    return _BLANKS.sub("", " ".join(text.translate(_INVISIBLE).split()))


def _messages(values: object, where: str) -> tuple[Message, ...]:
    if not isinstance(values, list) or not values:
        raise ProblemFileError(f"{where}: expected a list of at least one message")
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict) or set(value) != {"role", "content"}:
            raise ProblemFileError(f"{where}, message {number}: expected an object with role and content")
        if value["role"] not in ROLES:
            raise ProblemFileError(f"{where}, message {number}: role must be one of {', '.join(ROLES)}")
        _check_text(value["content"], f"{where}, message {number}, content", required=True)
    if values[-1]["role"] != "user":
        raise ProblemFileError(f"{where}: the last message must be the user's, which the model answers")
    return tuple(Message(**value) for value in values)


def _check_text(value: object, where: str, required: bool) -> None:
    if not isinstance(value, str):
        raise ProblemFileError(f"{where}: expected text, found {type(value).__name__}")
    if required and not value.strip():
        raise ProblemFileError(f"{where}: empty")
    if _SURROGATE.search(value):
        raise ProblemFileError(f"{where}: holds half a surrogate pair, which is no text")


def check_named(value: str, where: str) -> None:
    """Raises ProblemFileError, which begins with `where`, for what is no name."""
    try:
        check_name(value)
    except ValueError as error:
        raise ProblemFileError(f"{where}: {error}") from None


def check_gold(problem: Problem, task: Task, where: str) -> None:
    """Raises ProblemFileError for a problem of another task, or one whose gold answer the verifier finds wrong."""
    if problem.task not in ("", task.name):
        raise ProblemFileError(f"{where}, field task: this problem is for another task than {task.name}")
    try:
        gold = task.gold_completion(problem)
    except NotOfThisTask as error:
        raise ProblemFileError(f"{where}, field {error.field}: not a {task.name} problem: {error}") from None
    if task.verify(problem, gold).reward != 1.0:
        raise ProblemFileError(f"{where}, field answer: the gold does not score 1.0 against itself")


def same_answer(task: Task, problem: Problem, other: str) -> bool:
    """Whether a problem's gold and another text are the same answer to the task's verifier, each in the other's place.
    Only for a problem whose gold was checked."""
    if other.strip() == problem.answer.strip():
        return True
    changed = replace(problem, answer=other)
    try:
        golds = task.gold_completion(problem), task.gold_completion(changed)
    except NotOfThisTask:
        return False
    return task.verify(changed, golds[0]).reward == task.verify(problem, golds[1]).reward == 1.0
