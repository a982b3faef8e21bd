"""What releases cost together, as (epsilon, delta) differential privacy."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from scipy.special import log_ndtr

from fedrlvr.config import LEAST_NOISE, MOST_NOISE
from fedrlvr.protocol.refused import Refused


@dataclass(frozen=True)
class SiteNoise:
    """Releases of a clipped vector with Gaussian noise of standard deviation noise_multiplier x clip norm.

    The unit is the site (add/remove): without the site, its difference would be 0.
    """

    noise_multiplier: float
    releases: int = 1
    times: ClassVar[str] = "releases"  # how often it was done
    least_noise: ClassVar[float] = 0.001  # the closed form is exact far below this

    @property
    def noise(self) -> float:
        return self.noise_multiplier


@dataclass(frozen=True)
class ExampleNoise:
    """Private steps of DP-GRPO. The unit is one private problem (add/remove).

    Each of `steps` draws a Poisson sample (every problem with probability `sampling_rate`) and releases `iterations`
    noisy sums of its clipped per-problem gradients. Each of them may depend on the ones before.
    """

    sampling_rate: float
    noise_multiplier: float
    iterations: int
    steps: int
    times: ClassVar[str] = "steps"
    least_noise: ClassVar[float] = LEAST_NOISE  # for noise of 1e-160 the series gives an epsilon of 0

    @property
    def noise(self) -> float:
        """The noise multiplier of a step as a whole: its `iterations` noisy sums are one Gaussian mechanism with
        noise_multiplier / sqrt(iterations), as adaptive composition of Gaussians is exact."""
        return self.noise_multiplier / math.sqrt(self.iterations)


# Whole Renyi orders only: the series for other orders may not converge. Any set of orders gives a bound.
ORDERS = [*range(2, 65), *range(68, 257, 4), 512, 1024]
# Privacy loss distributions are convolved by FFT. Against the closed form of the Gaussian, the delta of a million steps
# was off by 4e-12; a bound of 1e-9 is taken.
ROUNDING = 1e-15  # of delta, for one step
MOST_STEPS = 1_000_000
LONGEST = 50_000  # losses of a distribution; a few times as many arise

Charge = SiteNoise | ExampleNoise
UNITS: dict[type[Charge], str] = {SiteNoise: "site", ExampleNoise: "private problem"}


def epsilon(charges: Sequence[Charge], delta: float) -> float:
    """The epsilon of all `charges` together, at `delta`: the least of `bounds`, whose errors it raises."""
    return min(bounds(charges, delta).values())


def bounds(charges: Sequence[Charge], delta: float) -> dict[str, float]:
    """Upper bounds on the epsilon of all `charges` together, by how they are found: `exact` for sites; for private
    problems `RDP` and, where it can be had, `PLD`. Raises ValueError for charges of different units, and Refused where
    the package that accounts for DP-GRPO is missing, or the noise is outside the range of the accountant."""
    kinds = {type(charge) for charge in charges}
    if len(kinds) > 1:
        raise ValueError("charges of different units cannot be added up")
    for charge in charges:
        if not charge.least_noise <= charge.noise <= MOST_NOISE:
            raise Refused(
                f"noise of {charge.noise:g} cannot be accounted for: {charge.least_noise:g} to {MOST_NOISE:g} can"
            )
    if kinds != {ExampleNoise}:
        return {"exact": gaussian_epsilon(math.sqrt(sum(c.releases / c.noise**2 for c in charges)), delta)}
    return _sampled_bounds(charges, delta)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon >= 0 of Gaussian mechanisms at `delta`, to 1e-12 relative from above.

    mu^2 is the sum of (sensitivity / std)^2 over all releases. Adaptive composition is exact (Dong, Roth & Su, arXiv
    1905.02383, corollary 3.3).
    """
    target = math.log(delta)
    if mu == 0 or log_gaussian_delta(mu, 0.0) <= target:
        return 0.0
    low, high = 0.0, 1.0
    while log_gaussian_delta(mu, high) > target:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if log_gaussian_delta(mu, middle) > target else (low, middle)
    return high


def log_gaussian_delta(mu: float, epsilon: float) -> float:
    """The logarithm of the exact delta, which is Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu) (Balle &
    Wang, ICML 2018, theorem 8): with many releases both terms overflow or become 0."""
    first, second = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    if second >= first:  # they are equal up to rounding, so delta is 0
        return -math.inf
    return first + math.log1p(-math.exp(second - first))


def _sampled_bounds(charges: Iterable[ExampleNoise], delta: float) -> dict[str, float]:
    """Of the Poisson-sampled Gaussian, by dp-accounting.

    Renyi accounting (Mironov, Talwar & Zhang, arXiv 1908.10530) also holds where the settings of later steps are chosen
    by what earlier ones released (Feldman & Zrnic, arXiv 2008.11193). Of privacy loss distributions that is not known,
    so they are used only for steps that are all alike.
    """
    try:
        from dp_accounting import rdp
    except ImportError:
        raise Refused("dp_grpo cannot be accounted for here: pip install dp-accounting") from None
    steps: Counter[tuple[float, float]] = Counter()
    for charge in charges:
        if charge.steps:
            steps[charge.sampling_rate, charge.noise] += charge.steps
    renyi = sum((count * _renyi(*alike) for alike, count in steps.items()), np.zeros(len(ORDERS)))
    if not np.all(renyi > -1e-9):  # a NaN or a negative number would come out as an epsilon of 0
        raise Refused("the accountant returned a Renyi divergence that is none")
    found = {"RDP": float(rdp.compute_epsilon(ORDERS, renyi, delta)[0])}
    if len(steps) == 1 and found["RDP"] > 0:
        (((rate, noise), count),) = steps.items()
        bound = _loss_distribution_bound(rate, noise, count, delta, found["RDP"])
        if 0 <= bound < math.inf:
            found["PLD"] = bound
    return found


@cache
def _renyi(rate: float, noise: float) -> np.ndarray:
    """The Renyi divergences of one step, by order."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    return RdpAccountant(orders=ORDERS).compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise))).rdp


def _loss_distribution_bound(rate: float, noise: float, steps: int, delta: float, known: float) -> float:
    """The bound of privacy loss distributions (Doroshenko et al., arXiv 2207.04380) for steps that are all alike; inf
    where it cannot be had. `known` is a bound that is known already.

    Whatever the interval between the losses that are told apart, the result is a bound; coarse ones cost more epsilon,
    fine ones more time. This one costs a ten-thousandth of `known`, unless the arrays would be too long.
    """
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    if steps > MOST_STEPS or steps * ROUNDING > delta / 100:
        return math.inf
    widest = math.log1p(rate * math.expm1(10 / noise + 0.5 / noise**2))  # loss of one step, but for a share of 1e-23
    interval = max(math.sqrt(1e-4 * known / steps), widest / LONGEST, known / LONGEST)
    accountant = PLDAccountant(value_discretization_interval=interval)
    try:
        accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)
        found = float(accountant.get_epsilon(0.99 * delta))  # the rest is for rounding
    except OverflowError:  # at an epsilon of millions
        return math.inf
    if 0 < found < known / 10:  # the interval was chosen for a much larger one
        return min(found, _loss_distribution_bound(rate, noise, steps, delta, found))
    return found
