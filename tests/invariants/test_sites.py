"""What must hold between sites, whatever the settings."""

import pytest
import torch

from fedrlvr.algorithms.aggregate import AGGREGATORS
from fedrlvr.algorithms.lora import factor_pairs
from fedrlvr.algorithms.schedule import plan_round
from fedrlvr.config import FederationSettings

TRIMS = FederationSettings(trim_fraction=0.4)  # so that three sites are enough for every aggregator


@pytest.mark.parametrize("aggregator", list(AGGREGATORS))
def test_identical_sites_are_one_site(make_trainer, small_job, aggregator):
    """K sites with the same data and random streams, averaged, are the one site: the same product in every layer."""
    job = small_job(method="fedavg+public")
    updates = []
    for _ in range(3):
        trainer = make_trainer(job)
        start = trainer.engine.adapter()
        for phase in plan_round(job, 0, list(trainer.problems.public)):
            trainer.train(phase.segments, phase.exchange)
        updates.append(trainer.submit())
    alone = {name: start[name] + updates[0][name] for name in start}
    together = AGGREGATORS[aggregator](start, updates, TRIMS)
    for name_a, name_b in factor_pairs(start):
        assert bool(alone[name_b].any())
        torch.testing.assert_close(
            together[name_b] @ together[name_a], alone[name_b] @ alone[name_a], atol=1e-6, rtol=1e-4
        )


def test_site_order_changes_nothing_but_rounding(make_trainer, job):
    trainer = make_trainer(job)
    start = trainer.engine.adapter()
    generator = torch.Generator().manual_seed(0)
    updates = [{n: torch.randn(t.shape, generator=generator) * 0.1 for n, t in start.items()} for k in range(3)]
    for aggregate in AGGREGATORS.values():
        forward, backward = (aggregate(start, order, TRIMS) for order in (updates, updates[::-1]))
        for name_a, name_b in factor_pairs(start):
            torch.testing.assert_close(
                forward[name_b] @ forward[name_a], backward[name_b] @ backward[name_a], atol=1e-6, rtol=1e-5
            )
