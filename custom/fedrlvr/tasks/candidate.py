"""Finding the one answer that a completion gives. The time is linear in the completion's length for any text."""

import re

BOX = "\\boxed{"

_TOKEN = re.compile(r"\\boxed\{|\\.|[{}]", re.DOTALL)  # an escaped brace is a character, not a bracket
_DECLARED = re.compile(r"(?:####|(?:the )?(?:final )?answer(?::| is:?))\s*(\S.*)", re.IGNORECASE | re.DOTALL)


def last_box(text: str) -> str | None:
    """The content of the last `\\boxed{...}` that is closed, stripped; None if there is none. The
    last is the one that opens last, so of nested boxes the innermost."""
    opened: list[int] = []  # where the content of each open bracket begins; -1 if it is no box
    best = (-1, -1)
    begin = len(text.partition(BOX)[0].rstrip("\\"))  # no bracket before the first box matters, but a backslash may
    for token in _TOKEN.finditer(text, begin):
        if token.group() == "{":
            opened.append(-1)
        elif token.group() == BOX:
            opened.append(token.end())
        elif token.group() == "}" and opened:
            best = max(best, (opened.pop(), token.start()))
    return text[best[0] : best[1]].strip() if best[0] >= 0 else None


def declared_answer(text: str) -> str | None:
    """What the last line that is not blank declares as `#### X`, `Answer: X` or `The answer is X`, else None."""
    match = _DECLARED.fullmatch(text.rstrip().rpartition("\n")[2].strip())
    return match.group(1).strip() if match else None
