"""What releases cost together, as (epsilon, delta) differential privacy."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

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
    least_noise: ClassVar[float] = LEAST_NOISE  # for noise of 1e-160 the series gives an epsilon of 0

    @property
    def noise(self) -> float:
        """The noise multiplier of a step as a whole: its `iterations` noisy sums are one Gaussian mechanism with
        noise_multiplier / sqrt(iterations), as adaptive composition of Gaussians is exact."""
        return self.noise_multiplier / math.sqrt(self.iterations)


# Whole Renyi orders only: the series for other orders may not converge. Any set of orders gives a bound.
ORDERS = [*range(2, 65), *range(68, 257, 4), 512, 1024]

Charge = SiteNoise | ExampleNoise
UNITS: dict[type[Charge], str] = {SiteNoise: "site", ExampleNoise: "private problem"}


def epsilon(charges: Sequence[Charge], delta: float) -> float:
    """The epsilon of all `charges` together, at `delta`. Raises ValueError for charges of different units, and Refused
    where the package that accounts for DP-GRPO is missing, or the noise is outside the range of the accountant."""
    kinds = {type(charge) for charge in charges}
    if len(kinds) > 1:
        raise ValueError("charges of different units cannot be added up")
    for charge in charges:
        if not charge.least_noise <= charge.noise <= MOST_NOISE:
            bounds = f"{charge.least_noise:g} to {MOST_NOISE:g} can"
            raise Refused(f"noise of {charge.noise:g} cannot be accounted for: {bounds}")
    if kinds != {ExampleNoise}:
        return gaussian_epsilon(math.sqrt(sum(c.releases / c.noise**2 for c in charges)), delta)
    spent = _sampled_epsilon(charges, delta)
    if not spent >= 0:  # a NaN would pass every limit
        raise Refused(f"the accountant returned epsilon {spent}")
    return spent


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


def _sampled_epsilon(charges: Iterable[ExampleNoise], delta: float) -> float:
    """Renyi accounting of the subsampled Gaussian by dp-accounting (Mironov, Talwar & Zhang, arXiv 1908.10530).

    Charges that differ only in their number of steps are composed as one.
    """
    try:
        from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
        from dp_accounting.rdp import RdpAccountant
    except ImportError:
        raise Refused("dp_grpo cannot be accounted for here: pip install 'fedrlvr[dp]'") from None
    steps: Counter[tuple[float, float]] = Counter()
    for charge in charges:
        steps[charge.sampling_rate, charge.noise] += charge.steps
    accountant = RdpAccountant(orders=ORDERS)
    for (rate, noise), count in steps.items():
        if count:
            accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), count)
    return float(accountant.get_epsilon(delta))
