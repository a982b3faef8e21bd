"""What completions are rewarded for. Several rewards become one number by weights (TRL's `reward_funcs` and
`reward_weights`). What is right, and so what is pooled, swapped and measured, is the verifier's word alone.
"""

from collections.abc import Callable
from typing import NamedTuple

from fedrlvr.config import GrpoSettings
from fedrlvr.types import Completion

REPETITION_NGRAM = 3  # tokens; TRL's default


class Reward(NamedTuple):
    """`of` gives a completion's reward, from `least` to `most`; None carries no signal."""

    of: Callable[[Completion, GrpoSettings], float | None]
    least: float
    most: float


def accuracy(completion: Completion, settings: GrpoSettings | None = None) -> float | None:
    """The verifier's reward; None where a limit ended the verification."""
    return completion.reward if completion.verified else None


def has_answer(completion: Completion, settings: GrpoSettings) -> float:
    """1 where there is an answer to judge, right or wrong, such as one in a box."""
    return float(completion.answered)


def soft_overlong(completion: Completion, settings: GrpoSettings) -> float:
    """DAPO's soft overlong punishment (arXiv 2503.14476, eq. 13; TRL's `get_soft_overlong_punishment`): 0, but over
    the last `soft_punish_cache` tokens before the length limit it falls to -1."""
    cache = settings.soft_punish_cache
    over = len(completion.token_ids) - (settings.max_completion_length - cache)
    return -min(max(over, 0) / cache, 1.0)


def repetition(completion: Completion, settings: GrpoSettings) -> float:
    """Minus the share of a completion's n-grams of tokens that it has said before (arXiv 2502.03373, appendix C.2;
    TRL's `get_repetition_penalty_reward`)."""
    ids = completion.token_ids
    ngrams = list(zip(*(ids[i:] for i in range(REPETITION_NGRAM)), strict=False))
    return len(set(ngrams)) / len(ngrams) - 1 if ngrams else 0.0


REWARDS = {
    "accuracy": Reward(accuracy, 0.0, 1.0),
    "format": Reward(has_answer, 0.0, 1.0),
    "soft_overlong": Reward(soft_overlong, -1.0, 0.0),
    "repetition": Reward(repetition, -1.0, 0.0),
}


def total_reward(completion: Completion, settings: GrpoSettings) -> float | None:
    """The weighted sum of the rewards that are not None (TRL's nansum); None where all are."""
    values = {name: REWARDS[name].of(completion, settings) for name in settings.reward_weights}
    said = [settings.reward_weights[name] * value for name, value in values.items() if value is not None]
    return sum(said) if said else None


def reward_limits(settings: GrpoSettings) -> dict[str, tuple[float, float]]:
    """The least and the most that the means of a step can be, by their names in its record."""
    known = {name: REWARDS[name] for name in settings.reward_weights}
    ends = [(weight * known[name].least, weight * known[name].most) for name, weight in settings.reward_weights.items()]
    least, most = sum(min(0.0, *end) for end in ends), sum(max(0.0, *end) for end in ends)
    rounding = 1 + 1e-9  # of a mean
    total = least * rounding, most * rounding
    return {"reward": total} | {f"rewards/{name}": (reward.least, reward.most) for name, reward in known.items()}
