"""The swap: right answers of other sites replace some of a site's own wrong answers (arXiv 2604.12160)."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fedrlvr.config import SwapSettings
from fedrlvr.types import Completion, Group


def swap_incorrect(
    group: Group, pooled: Sequence[Completion], settings: SwapSettings, target: float | None = None
) -> Group:
    """Replace n = min(m, G - c - keep_incorrect, max_swaps) wrong completions by the first n pooled ones.

    c is the number of completions in the group that are not wrong, m the number of pooled ones, of each site
    `max_per_site` at most; with `repeat` the pool is used again, as often as it takes. With the rule `match_global` n
    is no more than brings the right share of the group up to `target`, the mean over the sites. A group above it stays
    as it is. Without a target nothing is swapped.

    The group keeps its size and order; the last wrong completions are replaced first. An all-correct group is returned
    unchanged. Completions that could not be verified are not wrong: they stay.
    """
    wrong = [i for i, made in enumerate(group.completions) if made.verified and not made.correct]
    queue = list(_in_turn(pooled, len(group.completions) if settings.repeat else 1, settings.max_per_site))
    n = min(len(queue), len(wrong) - settings.keep_incorrect)
    if settings.max_swaps is not None:
        n = min(n, settings.max_swaps)
    if settings.rule == "match_global":
        n = min(n, _missing(group, target))
    if n <= 0:
        return group
    completions = list(group.completions)
    for position, pooled_one in zip(reversed(wrong[-n:]), queue, strict=False):
        completions[position] = pooled_one
    return replace(group, completions=tuple(completions))


def _in_turn(pooled: Sequence[Completion], times: int, max_per_site: int | None) -> Iterator[Completion]:
    """The pooled completions in the order in which they take places, so many times, without what a site has too many
    of."""
    taken: Counter[str] = Counter()
    for completion in list(pooled) * times:
        taken[completion.origin] += 1
        if max_per_site is None or taken[completion.origin] <= max_per_site:
            yield completion


def _missing(group: Group, target: float | None) -> int:
    """How many right completions the group lacks to the target, rounded half up. Only verified ones count."""
    if target is None:
        return 0
    return math.floor(target * group.num_verified + 0.5 + 1e-9) - group.num_correct  # a mean may lack its last bit


def replace_all(group: Group, pooled: Sequence[Completion]) -> Group:
    """The baseline that swaps everything: all G completions come from the pool, repeated where it holds fewer.

    Such a group has no wrong answer left, so its advantages are taken against the rewards of the receiver's own
    completions: a prompt it always solves teaches nothing, one it never solves teaches most.
    """
    if not pooled:
        return group
    completions = tuple(pooled[i % len(pooled)] for i in range(len(group.completions)))
    return replace(group, completions=completions, baseline=group.completions)


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
