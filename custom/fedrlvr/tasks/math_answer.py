"""Mathematical answers: finding the one candidate in a completion, and asking math-verify whether it equals the gold.

math-verify can be kept busy for ever by a short expression (a tower of powers). A completion is untrusted, so only
plain numerals reach it: an integer, a decimal or a fraction, of bounded length. Anything else scores 0.
"""

from __future__ import annotations

import re
from functools import lru_cache

from math_verify import parse, verify

MAX_LENGTH = 40
_DIGITS, _NONZERO = "[0-9]{1,15}", "(?=0{0,14}[1-9])[0-9]{1,15}"
_NUMERAL = re.compile(
    rf"[-+]?{_DIGITS}(\.{_DIGITS})?|[-+]?{_DIGITS}/{_NONZERO}|[-+]?\\d?frac\{{{_DIGITS}\}}\{{{_NONZERO}\}}"
)
_MARK = "\\boxed{"


def last_boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}` with balanced braces; None if there is none or it is too long."""
    start = text.rfind(_MARK)
    if start < 0:
        return None
    begin, depth = start + len(_MARK), 1
    for position in range(begin, min(len(text), begin + MAX_LENGTH + 1)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position].strip()
    return None


def is_numeral(text: str) -> bool:
    return len(text) <= MAX_LENGTH and _NUMERAL.fullmatch(text) is not None


@lru_cache(maxsize=100_000)
def answers_agree(gold: str, candidate: str) -> bool:
    """Whether `candidate` is a plain numeral that math-verify finds equal to `gold`."""
    if not (is_numeral(gold) and is_numeral(candidate)):
        return False
    # Numerals need no time limit, and without one math-verify sets no alarm, so this works in any thread.
    return bool(verify(_parsed(gold), _parsed(candidate), timeout_seconds=None))


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> list:
    return parse(f"${text}$", parsing_timeout=None)
