"""Group advantages: how much better a completion is than its group (GRPO, arXiv 2402.03300, outcome rewards)."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fedrlvr.algorithms.rewards import accuracy
from fedrlvr.types import Completion, Group

EPSILON = 1e-4  # TRL's guard against a vanishing standard deviation


def group_advantages(
    groups: Sequence[Group],
    scale_rewards: str = "group",
    negative_scale: float = 1.0,
    score: Callable[[Completion], float | None] = accuracy,
) -> list[np.ndarray]:
    """One float64 array of advantages per group, in the order of its completions.

    A_i = r_i - mean(baseline rewards), where r is what `score` gives, divided by the standard deviation (n - 1, as TRL)
    of the group, of all rewards of the batch, or not at all. Negative advantages are multiplied by `negative_scale`:
    below 1, a rare right answer weighs more than the many wrong ones around it. A completion without a score, such as
    one that could not be verified, is in no baseline, and its advantage is 0.
    """
    rewards = [[score(completion) for completion in group.completions] for group in groups]
    others = [_known(map(score, group.baseline or ())) for group in groups]
    baselines = [other if other.size else _known(own) for own, other in zip(rewards, others, strict=True)]
    batch_std = _std(np.concatenate(baselines)) if groups else 0.0
    advantages = []
    for own, baseline in zip(rewards, baselines, strict=True):
        centred = np.asarray([reward or 0.0 for reward in own]) - _mean(baseline)
        if scale_rewards == "group":
            # A baseline without spread gives no unit to scale by; only replace-all has a signal left then.
            spread = _std(baseline)
            centred = centred / (spread + EPSILON) if spread > 0 else centred
        elif scale_rewards == "batch":
            centred = centred / (batch_std + EPSILON)
        scaled = np.where(centred < 0, centred * negative_scale, centred)
        advantages.append(np.where([reward is not None for reward in own], scaled, 0.0))
    return advantages


def _known(rewards: Iterable[float | None]) -> np.ndarray:
    return np.asarray([reward for reward in rewards if reward is not None], dtype=np.float64)


def _mean(values: np.ndarray) -> float:
    # The mean of equal floats may differ from them in the last bit, which would look like a signal.
    return float(values[0] if np.ptp(values) == 0 else values.mean()) if values.size else 0.0


def _std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if values.size > 1 and np.ptp(values) > 0 else 0.0
