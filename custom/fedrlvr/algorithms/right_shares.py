"""What share of a site's completions to a public problem is right, and the mean over sites: the target that the swap's
rule `match_global` swaps towards.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fedrlvr.types import Group


def right_shares(groups: Sequence[Group]) -> dict[str, float]:
    """By problem id, the right completions over the verified ones; a group in which none was verified says nothing."""
    return {group.problem.id: group.num_correct / group.num_verified for group in groups if group.num_verified}


def mean_shares(told: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """By problem id, the mean over the sites that told of it, each of equal weight."""
    by_problem: dict[str, list[float]] = defaultdict(list)
    for shares in told:
        for problem_id, share in shares.items():
            by_problem[problem_id].append(share)
    return {problem_id: math.fsum(shares) / len(shares) for problem_id, shares in sorted(by_problem.items())}
