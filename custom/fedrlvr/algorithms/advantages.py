"""Group advantages: how much better a completion is than its group (GRPO, arXiv 2402.03300, outcome rewards)."""

from collections.abc import Sequence

import numpy as np

from fedrlvr.types import Group

EPSILON = 1e-4  # TRL's guard against a vanishing standard deviation


def group_advantages(
    groups: Sequence[Group], scale_rewards: str = "group", negative_scale: float = 1.0
) -> list[np.ndarray]:
    """One float64 array of advantages per group, in the order of its completions.

    A_i = r_i - mean(baseline rewards), divided by the standard deviation (n - 1, as TRL) of the group, of all rewards
    of the batch, or not at all. Negative advantages are multiplied by `negative_scale`: below 1, a rare right answer
    weighs more than the many wrong ones around it. A completion that could not be verified is in no baseline, and its
    advantage is 0.
    """
    baselines = [np.asarray(group.baseline_rewards or group.verified_rewards, dtype=np.float64) for group in groups]
    batch_std = _std(np.concatenate(baselines)) if groups else 0.0
    advantages = []
    for group, baseline in zip(groups, baselines, strict=True):
        centred = np.asarray(group.rewards, dtype=np.float64) - _mean(baseline)
        if scale_rewards == "group":
            # A baseline without spread gives no unit to scale by; only replace-all has a signal left then.
            spread = _std(baseline)
            centred = centred / (spread + EPSILON) if spread > 0 else centred
        elif scale_rewards == "batch":
            centred = centred / (batch_std + EPSILON)
        scaled = np.where(centred < 0, centred * negative_scale, centred)
        advantages.append(np.where([c.verified for c in group.completions], scaled, 0.0))
    return advantages


def _mean(values: np.ndarray) -> float:
    # The mean of equal floats may differ from them in the last bit, which would look like a signal.
    return float(values[0] if np.ptp(values) == 0 else values.mean()) if values.size else 0.0


def _std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if values.size > 1 and np.ptp(values) > 0 else 0.0
