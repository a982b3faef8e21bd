"""The swap: right answers of other sites replace some of a site's own wrong answers (arXiv 2604.12160)."""

from collections.abc import Sequence
from dataclasses import replace

from fedrlvr.config import SwapSettings
from fedrlvr.types import Completion, Group


def swap_incorrect(group: Group, pooled: Sequence[Completion], settings: SwapSettings) -> Group:
    """Replace n = min(m, G - c - keep_incorrect, max_swaps) wrong completions by the first n pooled ones.

    c is the number of completions in the group that are not wrong, m the number of pooled ones; with `repeat` m has no
    limit, as the pool is used again. The group keeps its size and order; the last wrong completions are replaced first.
    An all-correct group is returned unchanged. Completions that could not be verified are not wrong: they stay.
    """
    wrong = [i for i, made in enumerate(group.completions) if made.verified and not made.correct]
    available = len(group.completions) if settings.repeat and pooled else len(pooled)
    n = min(available, len(wrong) - settings.keep_incorrect)
    if settings.max_swaps is not None:
        n = min(n, settings.max_swaps)
    if n <= 0:
        return group
    completions = list(group.completions)
    for k, position in enumerate(reversed(wrong[-n:])):
        completions[position] = pooled[k % len(pooled)]
    return replace(group, completions=tuple(completions))


def replace_all(group: Group, pooled: Sequence[Completion], settings: SwapSettings) -> Group:
    """The baseline that swaps everything: all G completions come from the pool, repeated where it holds fewer.

    Such a group has no wrong answer left, so its advantages are taken against the rewards of the receiver's own
    completions: a prompt it always solves teaches nothing, one it never solves teaches most. `settings` is unused.
    """
    if not pooled:
        return group
    completions = tuple(pooled[i % len(pooled)] for i in range(len(group.completions)))
    return replace(group, completions=completions, baseline_rewards=group.verified_rewards)


def swap_metrics(before: Sequence[Group], after: Sequence[Group]) -> dict[str, float]:
    """swap/fraction: swapped completions over all; swap/rescued_groups: all-wrong groups that now hold a right one."""
    total = sum(len(group.completions) for group in before)
    swapped = sum(bool(c.origin) for group in after for c in group.completions)
    rescued = sum(a.num_correct > 0 for b, a in zip(before, after, strict=True) if b.num_correct == 0)
    return {
        "swap/completions": float(swapped),
        "swap/fraction": swapped / total if total else 0.0,
        "swap/all_wrong_groups": float(sum(group.num_correct == 0 for group in before)),
        "swap/rescued_groups": float(rescued),
    }
