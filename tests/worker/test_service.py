"""A worker's service from its start to its end."""

from types import SimpleNamespace

from fedrlvr.learning.ranks import Ranks
from fedrlvr.worker.service import Service


def test_closing_ends_the_rollout_engine_and_unlocks_the_run(set_up, job):
    """Else a second service of the same run could not start."""
    closed = []
    for number in (1, 2):
        service = Service(set_up(job, run={"run": "0" * 16}), Ranks())
        service.trainer.rollouts.generator = SimpleNamespace(close=lambda: closed.append(1))
        service.close(save=False)
        assert len(closed) == number
