"""An adapter's difference on its way out of the site: it is checked, clipped, charged to the ledger, and noised."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from fedrlvr.privacy.accountant import UNITS, Charge, SiteNoise, bounds, epsilon
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.privacy.mechanism import add_noise, clip
from fedrlvr.privacy.policy import AdapterRules, TrainingRules
from fedrlvr.protocol.adapters import check_adapter
from fedrlvr.protocol.refused import Refused
from fedrlvr.types import Adapter


@dataclass(frozen=True)
class AdapterRelease:
    """One job's releases of adapters made from one source; each costs what `SiteNoise` says."""

    rules: AdapterRules
    ledger: Ledger
    source: Source
    job: str

    def __call__(
        self, delta: Adapter, spec: Mapping[str, Sequence[int]], frozen: Collection[str] = ()
    ) -> tuple[Adapter, dict]:
        """The difference as it may leave, and its measures (`norm`, `clipped`, `epsilon`, as far as they apply).

        Where noise is added, the `frozen` factors leave as 0, as the server refuses one that moved. The ledger is
        charged before noise is drawn. Raises Refused for anything but finite float32 tensors of exactly the names and
        shapes in `spec`, and where the ledger cannot be charged.
        """
        check_adapter(delta, spec)
        measured: dict = {}
        if self.rules.clip_norm is not None:
            delta, norm = clip(delta, self.rules.clip_norm)
            measured = {"norm": norm, "clipped": int(norm > self.rules.clip_norm)}
        if self.rules.noise_multiplier > 0:
            release = SiteNoise(self.rules.noise_multiplier)
            measured["epsilon"] = self.ledger.charge(
                self.source, self.job, release, self.rules.delta, self.rules.max_epsilon
            )
            delta = add_noise(delta, self.rules.noise_multiplier * self.rules.clip_norm)
            delta |= {name: torch.zeros_like(delta[name]) for name in frozen}
        return delta, measured

    def check_plan(self, rounds: int) -> None:
        """Raises Refused if `rounds` more releases would exceed the site's limit."""
        if self.rules.noise_multiplier > 0:
            check_budget(self.ledger, self.source, SiteNoise(self.rules.noise_multiplier, rounds), self.rules)


def check_budget(ledger: Ledger, source: Source, planned: Charge, rules: AdapterRules | TrainingRules) -> None:
    """Raises Refused if `planned`, added to what is already spent, would exceed the limit of `rules`."""
    total = epsilon([*ledger.charges(source, type(planned)), planned], rules.delta)
    if rules.max_epsilon is not None and not total <= rules.max_epsilon:
        raise Refused(
            f"this job's plan would bring the site to epsilon {total:.4g} at delta {rules.delta:g}, its limit is "
            f"{rules.max_epsilon:g}: plan fewer rounds or steps, or more noise"
        )


def budget_in_words(charges: Sequence[Charge], rules: AdapterRules | TrainingRules) -> str:
    """What charges of one unit cost of the budget, and by which accountant, for somebody at the site."""
    found = bounds(charges, rules.delta)
    limit = f"of {rules.max_epsilon:g}" if rules.max_epsilon else "(no limit)"
    by = ", ".join(f"{name} {value:.4g}" for name, value in found.items() if name != "exact")
    said = f"epsilon {min(found.values()):.4g} {limit} at delta {rules.delta:g}{f' ({by})' if by else ''}"
    return f"{said}; unit: one {UNITS[type(charges[0])]}"


def loose_delta(rules: TrainingRules, private_problems: int) -> str:
    """A warning where delta permits to publish a whole problem, else "". It says how many problems there are, so it is
    for somebody at the site."""
    if rules.delta * private_problems < 1:
        return ""
    return (
        f"training.delta {rules.delta:g} is not below 1 / {private_problems} private problems: it would allow one of "
        f"them to be published whole; set it far below {1 / private_problems:.2g}"
    )
