"""From the sites' adapters to one: AGGREGATORS maps a name to an `Aggregator`. `drift` measures what was averaged: how
far the updates pull apart, and what averaging the factors loses.

Every aggregator takes the adapter the round started from and the sites' updates, which are differences to it, in the
order of the sites. It returns the next adapter. The weights of the sites add up to 1; `median` and `trimmed_mean` have
none. Sums run in float64, where rounding is small.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from fedrlvr.algorithms.lora import A_MARK, B_MARK, factor_pairs
from fedrlvr.algorithms.robust import median, norm_bounded, trimmed_mean
from fedrlvr.config import FederationSettings
from fedrlvr.types import Adapter


def fedit(start: Adapter, updates: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """Average the factors: start + mean of updates (FedIT, arXiv 2305.05644).

    Cheap, but mean(B) mean(A) is not mean(B A): what the sites learned interferes.
    """
    return {
        name: (tensor.double() + sum(_weighted(weights, [update[name] for update in updates]))).to(tensor.dtype)
        for name, tensor in sorted(start.items())
    }


def svd(start: Adapter, updates: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """The best rank-r factors of the averaged product sum_k(w_k B_k A_k), balanced: B = U sqrt(S), A = sqrt(S) V^T.

    The product is never formed: with stacked factors B' = [w_1 B_1 ... w_K B_K] (d_out x Kr) and
    A' = [A_1; ...; A_K] (Kr x d_in), QR of both leaves the SVD of a Kr x Kr core.
    """
    result = {}
    for name_a, name_b in factor_pairs(start):
        a_start, b_start = start[name_a].double(), start[name_b].double()
        stacked_a = torch.cat([a_start + update[name_a].double() for update in updates], dim=0)
        stacked_b = torch.cat(list(_weighted(weights, [b_start + update[name_b] for update in updates])), dim=1)
        b_new, a_new = truncate_product(stacked_b, stacked_a, rank=start[name_a].shape[0])
        result[name_a], result[name_b] = a_new.to(start[name_a].dtype), b_new.to(start[name_b].dtype)
    return dict(sorted(result.items()))


def truncate_product(left: torch.Tensor, right: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Balanced factors (d_out x rank, rank x d_in) of the best rank-`rank` approximation of left @ right.

    Where the product has a lower rank than `rank`, the spare columns would be 0 in both factors and never train again,
    as the gradient of each factor is the other one. So the spare rows of the right factor keep the rows of `right`.
    """
    (q_left, r_left), (q_right, r_right) = _qr(left), _qr(right.T)
    u, s, vt = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    left_vectors, s, right_vectors = q_left(u[:, :rank]), s[:rank], q_right(vt[:rank].T).T.contiguous()
    # A singular vector's sign is arbitrary; fix it so that equal products give equal factors.
    largest = left_vectors.gather(0, left_vectors.abs().argmax(0, keepdim=True)).squeeze(0)
    root = s.clamp(min=0).sqrt() * torch.where(largest < 0, -1.0, 1.0).to(s.dtype)
    b, a = left_vectors * root, root.unsqueeze(-1) * right_vectors
    if b.shape[1] < rank:
        b = torch.cat([b, b.new_zeros(b.shape[0], rank - b.shape[1])], dim=1)
        a = torch.cat([a, a.new_zeros(rank - a.shape[0], a.shape[1])], dim=0)
    floor = torch.finfo(torch.float32).eps * (float(s[0]) if s.numel() else 0.0)
    spare = torch.cat([s <= floor, s.new_ones(rank - s.numel(), dtype=torch.bool)])
    a[spare] = right[:rank][spare]
    b[:, spare] = 0
    return b, a


def _qr(matrix: torch.Tensor) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """What multiplies by Q, and R. Q itself, which would take as long as all else, is never formed."""
    packed, tau = torch.geqrf(matrix)
    size = len(tau)

    def times_q(right: torch.Tensor) -> torch.Tensor:
        padded = torch.cat([right, right.new_zeros(matrix.shape[0] - size, right.shape[1])])
        return torch.ormqr(packed, tau, padded).contiguous()  # LAPACK's columns follow each other in memory

    return times_q, packed[:size].triu()


@dataclass(frozen=True)
class Aggregator:
    """`combine` takes start, updates, their weights if it `weighs`, and by name those of a job's `federation` settings
    that `settings` lists. `freezes` has the mark in the names of the factors that do not train, for the rounds in turn;
    empty: all train."""

    combine: Callable[..., Adapter]
    freezes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    weighs: bool = True

    def __call__(
        self,
        start: Adapter,
        updates: Sequence[Adapter],
        federation: FederationSettings | None = None,
        work: Sequence[float] | None = None,
    ) -> Adapter:
        """The next adapter; without `federation`, by the default settings. Updates weigh as the `work` that is in each,
        more than 0 in any unit, and the same without it. Raises ValueError for too few updates."""
        federation = federation or FederationSettings()
        if not updates:
            raise ValueError("nothing to aggregate: no site's update was accepted")
        given = {name: getattr(federation, name) for name in self.settings}
        if self.weighs:
            work = work or [1] * len(updates)
            given["weights"] = [part / sum(work) for part in work]
        return self.combine(start, updates, **given)

    def frozen(self, names: Iterable[str], number: int) -> frozenset[str]:
        """Those of the factors with these names that do not train in round `number`, counted from 0."""
        mark = self.freezes[number % len(self.freezes)] if self.freezes else None
        return frozenset(name for name in names if mark is not None and mark in name)


# With one factor frozen and so the same at all sites, the average of the other one gives the mean product exactly.
AGGREGATORS: dict[str, Aggregator] = {
    "fedit": Aggregator(fedit),
    "svd": Aggregator(svd),
    "ffa": Aggregator(fedit, freezes=(A_MARK,)),  # FFA-LoRA, arXiv 2403.12313
    # RoLoRA, arXiv 2502.01755. B trains first: it starts at 0, where A has no gradient.
    "rolora": Aggregator(fedit, freezes=(A_MARK, B_MARK)),
    "median": Aggregator(median, weighs=False),
    "trimmed_mean": Aggregator(trimmed_mean, settings=("trim_fraction",), weighs=False),
    "norm_bounded": Aggregator(norm_bounded, settings=("norm_bound",)),
}


def drift(start: Adapter, updates: Sequence[Adapter]) -> dict[str, float]:
    """Of updates that weigh the same. drift/cosine: their mean pairwise cosine. drift/norm: their mean L2 norm.
    drift/product_gap: the share of the product that fedit loses, ||mean(BA) - mean(B) mean(A)|| / ||mean(BA)||."""
    count = len(updates)
    norms = [sum(float(tensor.double().square().sum()) for tensor in update.values()) ** 0.5 for update in updates]
    # The squared length of the unit updates' sum is the sum of all their cosines, each with itself (1) included.
    sum_squared, gap, total = 0.0, 0.0, 0.0
    for name in start:
        units = (update[name].double() / max(norm, 1e-30) for update, norm in zip(updates, norms, strict=True))
        sum_squared += float(sum(units).square().sum())
    for name_a, name_b in factor_pairs(start):
        factors_a = torch.stack([start[name_a].double() + update[name_a].double() for update in updates])
        factors_b = torch.stack([start[name_b].double() + update[name_b].double() for update in updates])
        lost, whole = _product_gap(factors_b, factors_a)
        gap, total = gap + lost, total + whole
    moved = sum(norm > 1e-30 for norm in norms)
    return {
        "drift/cosine": (sum_squared - moved) / (count * (count - 1)) if count > 1 else 1.0,
        "drift/norm": sum(norms) / count,
        "drift/product_gap": (gap / total) ** 0.5 if total > 0 else 0.0,
    }


def _product_gap(factors_b: torch.Tensor, factors_a: torch.Tensor) -> tuple[float, float]:
    """||mean(BA) - mean(B) mean(A)||^2 and ||mean(BA)||^2 of K sites' factors, K x d_out x r and K x r x d_in.

    No product is formed. The first is the mean of centred products; K mean(B) mean(A) added to their sum gives the
    second. The squared norm of a sum of products L R is the sum over (L^T L) * (R R^T), which are (K+1)r x (K+1)r.
    """
    count, rank = factors_a.shape[:2]
    mean_b, mean_a = factors_b.mean(0, keepdim=True), factors_a.mean(0, keepdim=True)
    left = torch.cat([factors_b - mean_b, count * mean_b]).mT.flatten(0, 1)  # (K+1)r x d_out
    right = torch.cat([factors_a - mean_a, mean_a]).flatten(0, 1)  # (K+1)r x d_in
    squares = (left @ left.T) * (right @ right.T) / count**2
    return max(float(squares[:-rank, :-rank].sum()), 0.0), max(float(squares.sum()), 0.0)


def _weighted(weights: Sequence[float], tensors: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """In float64."""
    return (weight * tensor.double() for weight, tensor in zip(weights, tensors, strict=True))
