"""Which private problem goes to which site. A pure function from labels and a seed to positions."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from fedrlvr.streams import stream

Partition = Literal["label", "dirichlet", "iid"]


class PreparationError(ValueError):
    """Sets that cannot be made from these problems as asked."""


def partition(labels: Sequence[str], sites: int, rule: Partition, seed: int, alpha: float | None) -> list[list[int]]:
    """For each site its positions in `labels`, ascending; each position belongs to one site.

    `label`: whole labels, the largest first, each to the site with the fewest problems so far. `dirichlet`: each label
    is divided by shares drawn from Dirichlet(`alpha`); the smaller alpha, the more unequal. `iid`: at random; sizes
    differ by at most one. Raises PreparationError for fewer labels than sites, or a site that would have no problem.
    """
    if rule == "label":
        owners = _whole_labels(labels, sites)
    elif rule == "dirichlet":
        owners = _dirichlet(labels, sites, alpha, seed)
    else:
        owners = np.empty(len(labels), dtype=int)
        owners[stream(seed, "partition", "iid").permutation(len(labels))] = np.arange(len(labels)) % sites
    parts = [np.flatnonzero(owners == site).tolist() for site in range(sites)]
    empty = [site for site, part in enumerate(parts, start=1) if not part]
    if empty:
        remedy = "a larger --alpha, another --seed or fewer --sites" if rule == "dirichlet" else "fewer --sites"
        raise PreparationError(
            f"partition {rule}: site-{empty[0]} would have no problem ({len(labels)} private problems, {sites} sites, "
            f"{len(empty)} of them empty); try {remedy}"
        )
    return parts


def _whole_labels(labels: Sequence[str], sites: int) -> np.ndarray:
    counts = Counter(labels)
    if len(counts) < sites:
        named = f"{len(counts)} labels" if len(counts) > 1 else "only one label"
        raise PreparationError(
            f"partition label: {sites} sites, but the private problems have {named}; expected at least one for each "
            "site; try fewer --sites, or --partition iid"
        )
    loads, owner = [0] * sites, {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        owner[label] = loads.index(min(loads))
        loads[owner[label]] += counts[label]
    return np.array([owner[label] for label in labels])


def _dirichlet(labels: Sequence[str], sites: int, alpha: float, seed: int) -> np.ndarray:
    owners, names = np.empty(len(labels), dtype=int), np.array(labels)
    for label in sorted(set(labels)):
        positions = np.flatnonzero(names == label)
        random = stream(seed, "partition", "dirichlet", label)  # each label has its own stream
        shares = random.dirichlet([alpha] * sites)
        bounds = np.rint(np.cumsum(shares)[:-1] * len(positions)).astype(int)
        for site, part in enumerate(np.split(random.permutation(positions), bounds)):
            owners[part] = site
    return owners
