"""Finding the one answer that a completion gives. The time is linear in the completion's length for any text."""

import re

BOX = "\\boxed{"

_TOKEN = re.compile(r"\\boxed\{|\\.|[{}]", re.DOTALL)  # an escaped brace is a character, not a bracket
_DECLARED = re.compile(r"(?:####|(?:the )?(?:final )?answer(?::| is:?))\s*(\S.*)", re.IGNORECASE | re.DOTALL)


def answer_part(completion: str) -> str:
    """What follows a model's thinking, if `</think>` ends it: a box that the thinking tries out is no answer."""
    return completion.rpartition("</think>")[2]


def last_box(text: str) -> str | None:
    """The content of the last `\\boxed{...}` that is closed, stripped; None if there is none. The
    last is the one that opens last, so of nested boxes the innermost."""
    start, end = max(boxes(text), default=(0, -1))
    return text[start:end].strip() if end >= 0 else None


def boxes(text: str) -> list[tuple[int, int]]:
    """Where the content of each `\\boxed{...}` that is closed begins and ends."""
    opened: list[int] = []  # where the content of each open bracket begins; -1 if it is no box
    found: list[tuple[int, int]] = []
    begin = len(text.partition(BOX)[0].rstrip("\\"))  # no bracket before the first box matters, but a backslash may
    for token in _TOKEN.finditer(text, begin):
        if token.group() == "{":
            opened.append(-1)
        elif token.group() == BOX:
            opened.append(token.end())
        elif token.group() == "}" and opened and (start := opened.pop()) >= 0:
            found.append((start, token.start()))
    return found


def declared_answer(text: str) -> str | None:
    """What the last line that is not blank declares as `#### X`, `Answer: X` or `The answer is X`, else None."""
    match = _DECLARED.fullmatch(text.rstrip().rpartition("\n")[2].strip())
    return match.group(1).strip() if match else None
