"""Which problems ask the same question: exactly, or nearly, by the 8-word sequences that they share.

Questions are compared as words (letters, digits and marks, casefolded after NFKC), numbers with their decimal point,
and the signs that have a meaning in mathematics: `x+1` and `x-1`, `(0,1)` and `[0,1]` are different. All other
characters count as blanks. The order of options does not count, and system messages are ignored. In scripts without
blanks between words, only exact duplicates are found. Turns that most conversations begin with, such as worked
examples, are no part of a question.
"""

import math
import re
import string
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from itertools import chain, combinations
from typing import NamedTuple

from fedrlvr.types import Message, Problem

GRAM = 8  # words


def _characters(*categories: str) -> str:
    """The characters of these Unicode categories, escaped for use in a character class."""
    return re.escape("".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c) in categories))


_ALIKE = str.maketrans("\u2212\u2013\u2019\u2032", "--''")  # minus, en dash, curly apostrophe, prime
_PRIME = r"'(?![^\W\d_])"  # of f'(x), not of don't
_TOKEN = re.compile(
    rf"\d*\.\d+|(?:[^\W_]|[{_characters('Mn', 'Mc')}])+|[-*/^%!()\[\]]|{_PRIME}|(?!~)[{_characters('Sm')}]"
)


class Match(NamedTuple):
    """An earlier problem that is like a new one: its set, its id, and the share of the new one's sequences in it."""

    set_name: str
    id: str
    share: float


def normalised(text: str) -> str:
    """A text's tokens with single blanks between them; the text itself if it has no token."""
    plain = unicodedata.normalize("NFKC", text).translate(_ALIKE).casefold()
    return " ".join(_TOKEN.findall(plain)) or text


def shared_turns(problems: Iterable[Problem]) -> frozenset[Message]:
    """The turns, but for the last, that more than half of all conversations have, and more than one."""
    conversations = [problem.messages for problem in problems if problem.messages]
    counts = Counter(turn for turns in conversations for turn in set(turns[:-1]))
    return frozenset(turn for turn, count in counts.items() if count > max(1, len(conversations) / 2))


def question_text(problem: Problem, shared: Collection[Message] = ()) -> str:
    """The question, normalised: the prompt or the conversation without its `shared` turns, then the options in sorted
    order, one per line."""
    *earlier, last = problem.messages or (Message("user", problem.prompt),)
    turns = [turn.content for turn in earlier if turn.role != "system" and turn not in shared]
    return "\n".join([*map(normalised, [*turns, last.content]), *sorted(map(normalised, problem.choices))])


def without_repeats(
    problems: Iterable[Problem], same_answer: Callable[[Problem, str], bool], shared: Collection[Message] = ()
) -> tuple[dict[str, Problem], int, list[list[Problem]]]:
    """Problems by question text, how many repeated another, and those that were dropped because the same question has
    different answers, question by question. The order of `problems` does not change what remains.

    `same_answer` says whether a problem's answer and another text are equal, such as 1 and 1.0; `shared` turns do not
    count.
    """
    groups: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[question_text(problem, shared)].append(problem)
    agreed = {text: group for text, group in groups.items() if _agree(group, same_answer)}
    kept = {text: min(group, key=lambda p: (p.id, p.label, len(p.answer), p.answer)) for text, group in agreed.items()}
    conflicts = [group for text, group in groups.items() if text not in agreed]
    return kept, sum(map(len, agreed.values())) - len(kept), conflicts


def _agree(group: list[Problem], same_answer: Callable[[Problem, str], bool]) -> bool:
    distinct = {_answer(problem): problem for problem in group}
    if len(distinct) == 1:
        return True
    if any(problem.choices for problem in group):
        return False
    return all(same_answer(p, q.answer) for p, q in combinations(distinct.values(), 2))


def _answer(problem: Problem) -> str:
    """The answer; of a letter the text of its option, as a repeat may have its options in another order."""
    option = dict(zip(string.ascii_uppercase, problem.choices, strict=False)).get(problem.answer.strip().upper())
    return problem.answer.strip() if option is None else normalised(option)


class Seen:
    """Questions that later sets must not contain. A question is seen if it is the same as an added one, or if at least
    `overlap` of its distinct 8-word sequences are in one added question.

    The time is linear in the total length: only added questions are indexed, and most questions have too few sequences
    in the whole index to be compared with any one of them.
    """

    def __init__(self, overlap: float):
        self.overlap = overlap
        self._names: list[tuple[str, str]] = []
        self._same: dict[str, int] = {}
        self._holders: dict[int, list[int]] = defaultdict(list)

    def add(self, set_name: str, text: str, problem: Problem) -> None:
        number = len(self._names)
        self._names.append((set_name, problem.id))
        self._same[text] = number
        for gram in _grams(text):
            self._holders[gram].append(number)

    def match(self, text: str) -> Match | None:
        """The added question most similar to this one, if similar enough; of several, the one added first."""
        if text in self._same:
            return Match(*self._names[self._same[text]], 1.0)
        grams = _grams(text)
        needed = max(1, math.ceil(round(self.overlap * len(grams), 9)))  # 0.7 x 10 is 7, not 7.000000000000001
        holders = [self._holders[gram] for gram in grams if gram in self._holders]
        if len(holders) < needed:
            return None
        number, shared = max(Counter(chain.from_iterable(holders)).items(), key=lambda item: (item[1], -item[0]))
        return Match(*self._names[number], shared / len(grams)) if shared >= needed else None


def _grams(text: str) -> set[int]:
    """Hashes of the distinct 8-word sequences; none for a shorter text."""
    words = text.split()
    return {hash(tuple(words[start : start + GRAM])) for start in range(len(words) - GRAM + 1)}
