"""Multiple-choice questions, answered by exactly one `\\boxed{}` with an option's letter, its text, or both.

A looser rule would be ambiguous: completions say "A patient ...", "Answer: A; B; C; D" and "the answer is B (C)". What
a last line declares, where the job lets it count, is read as strictly as a box.
"""

import re
import string
from dataclasses import replace

from fedrlvr.streams import stream
from fedrlvr.tasks.candidate import answer_part, boxes, declared_answer
from fedrlvr.tasks.references import DASHES, refers_to_others
from fedrlvr.tasks.task import NO_BOX, SEVERAL_BOXES, NotOfThisTask, Task, Verdict
from fedrlvr.tasks.unicode_math import greek_letters
from fedrlvr.types import Problem

LETTERS = string.ascii_uppercase

# `C`, `(C)`, `C)`, `C.`, `C:`, with or without the option's text; or the text and `(C)` after it.
_LETTER_FIRST = re.compile(
    r"(?:Option |Answer: )?(?:\(([A-Z])\)|([A-Z])(?![A-Za-z0-9-])(?:[).]|[:,](?=\s*\S)|\s-(?=\s))?)\s*(.*)", re.DOTALL
)
_LETTER_LAST = re.compile(r"(.*\S)\s*\(([A-Z])\)", re.DOTALL)
_STYLE = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|math(?:bf|it|rm)|mbox|emph|bm|boldsymbol) ?(\{[^{}]*\})")
_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_ESCAPED = re.compile(r"\\([%$&#_ ])|[~$]|\*\*")


class Choice(Task):
    name = "choice"
    instruction = "Please reason step by step, and put only the letter of the right option within \\boxed{}."

    def question(self, problem: Problem) -> str:
        """The question and its options, one per line: `A) ...`."""
        options = (f"{letter}) {text}" for letter, text in zip(LETTERS, problem.choices, strict=False))
        return "\n".join([problem.prompt, *options])

    def verify(self, problem: Problem, completion: str) -> Verdict:
        completion = answer_part(completion)
        contents = _boxed(completion)
        if not contents and self.settings.fallback == "last_line":
            contents = [declared for declared in [declared_answer(completion)] if declared is not None]
        if len(contents) != 1:
            return Verdict(0.0, SEVERAL_BOXES if contents else NO_BOX)
        if len(contents[0]) > self.settings.max_answer_length:
            return Verdict(0.0, "too long")
        letter, reason = _option(problem, _plain(contents[0]))
        if not letter:
            return Verdict(0.0, "no option")
        return Verdict(1.0, reason) if letter == problem.answer.strip() else Verdict(0.0, "wrong")

    def gold_completion(self, problem: Problem) -> str:
        if not 2 <= len(problem.choices) <= len(LETTERS):
            raise NotOfThisTask("choices", f"expected 2 to {len(LETTERS)} options, found {len(problem.choices)}")
        if problem.answer not in LETTERS[: len(problem.choices)] or len(problem.answer) != 1:
            raise NotOfThisTask("answer", "expected the letter of one of the options")
        return f"\\boxed{{{problem.answer}}}"

    def variant(self, problem: Problem, number: int) -> Problem:
        """Number 0 is the file's order; the other numbers permute the options, unless one refers to another. A
        conversation was written for one order, so it keeps that order.
        """
        if number == 0 or problem.messages or any(map(refers_to_others, problem.choices)):
            return problem
        order = stream(0, "options", problem.id, number).permutation(len(problem.choices)).tolist()
        choices = tuple(problem.choices[index] for index in order)
        answer = LETTERS[order.index(LETTERS.index(problem.answer))]
        return replace(problem, choices=choices, answer=answer, variant=number)


def _boxed(text: str) -> list[str]:
    """The contents of the boxes that hold something; at most two. The instruction's empty `\\boxed{}` may be quoted."""
    found: list[str] = []
    for start, end in boxes(text):
        content = text[start:end].strip()
        if any(map(str.isalnum, content)):
            found.append(content)
        if len(found) == 2:
            break
    return found


def _option(problem: Problem, content: str) -> tuple[str, str]:
    """The letter of the option that the content of a box names, and how; "" if it names none, or the letter of one and
    the text of another."""
    if (match := _LETTER_FIRST.fullmatch(content)) and not match[3]:
        letter = match[1] or match[2]
        return (letter if letter in LETTERS[: len(problem.choices)] else ""), "exact"
    options = {letter: _folded(_plain(text)) for letter, text in zip(LETTERS, problem.choices, strict=False)}
    wanted = _folded(content)
    same = [letter for letter, text in options.items() if text == wanted]
    if same and wanted:
        return (same[0] if len(same) == 1 else ""), "equal"
    if match:
        letter, text = match[1] or match[2], match[3]
    elif match := _LETTER_LAST.fullmatch(content):
        text, letter = match.groups()
    else:
        return "", ""
    texts = {_folded(text)} | ({_folded(text[1:-1])} if text.startswith("(") and text.endswith(")") else set())
    return (letter if options.get(letter) in texts else ""), "equal"


def _plain(content: str) -> str:
    """The text of a box without LaTeX's styles, escapes and commands for Greek letters."""
    for _ in range(2):  # a style in a style
        content = _STYLE.sub(lambda match: match[1][1:-1], content)
    content = content.translate(DASHES)
    return greek_letters(_ESCAPED.sub(lambda match: match[1] or (" " if match[0] == "~" else ""), content)).strip()


def _folded(text: str) -> str:
    return " ".join(text.casefold().translate(_QUOTES).split()).removesuffix(".")
