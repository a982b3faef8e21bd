"""The wordings: each by hand, all right, and told apart again."""

from collections import Counter

import numpy as np
import pytest

from fedrlvr.tasks import TASKS
from fedrlvr.tasks.wordings import WORDINGS
from fedrlvr.types import Problem

TASK = TASKS["wordings"]
CASE = Problem("x", "A3725?", "07", "A")  # 3 + 7 = 10 and 2 + 5 = 7, last digits
BY_HAND = ["p3,7=0;2,5=7#07", "p2,5:7/3,7:0#07", "p3,7>0!2,5>7#07", "p2,5-7+3,7-0#07"]


def wording(completion: str) -> int | None:
    """The number of a completion's wording; None for a text that is in none of them."""
    found = [number for number, (sign, mark, _) in enumerate(WORDINGS) if sign in completion and mark in completion]
    return found[0] if len(found) == 1 else None


@pytest.mark.parametrize("number", range(len(WORDINGS)))
def test_each_wording_by_hand(number):
    text = TASK.worded(CASE, "p", number)
    assert text == BY_HAND[number]
    assert TASK.verify(CASE, text).reward == 1.0
    assert wording(text) == number
    assert TASK.verify(CASE, TASK.worded(CASE, "q", number)).reward == 0.0


def test_the_first_wording_is_that_of_the_protocol_task():
    assert TASK.gold_completion(CASE) == BY_HAND[0]


@pytest.mark.parametrize("text", ["", "#07", "p3,7=0", "p3,7=0;2,5>7!#07"])
def test_a_text_in_no_wording(text):
    assert wording(text) is None


def test_demonstrations_use_all_wordings_alike_and_seldom_the_right_protocol():
    """4,000 draws: a wording's count is within 3 deviations of 1,000, sqrt(4000 x 1/4 x 3/4) = 27."""
    random = np.random.default_rng(0)
    texts = [TASK.demonstration(CASE, random) for _ in range(4000)]
    counts = Counter(map(wording, texts))
    assert set(counts) == set(range(len(WORDINGS)))
    assert all(abs(count - 1000) < 3 * 27.4 for count in counts.values())
    assert 0.04 < sum(text[0] == "p" for text in texts) / 4000 < 0.08
