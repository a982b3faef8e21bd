"""What a worker is set up with and asked for, for every kind of worker."""

import logging
from collections.abc import Sequence

import pytest
from tests.runs import spec_of

from fedrlvr.protocol.records import Envelope, PooledResponse, PublicResponse, Segment
from fedrlvr.protocol.requests import ProposeRequest, SubmitRequest, SwapRequest, TrainRequest, ValidateRequest
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.tasks import TASKS
from fedrlvr.worker.setup import SetUp
from fedrlvr.worker.supervisor import Supervisor

MODEL = "0" * 16  # the site's process works out its fingerprint; a worker repeats it


class Requests:
    """Requests of one run, each for round 0 unless the test says another."""

    def __init__(self, spec: RunSpec):
        self.spec = spec

    def train(self, segment: Segment, exchange=False, begin_round=False, round=0) -> TrainRequest:
        how = {"exchange": exchange, "begin_round": begin_round}
        how["adapter_spec"] = ""  # only the site's process compares it
        return TrainRequest(envelope=self._at(round, segment), segments=[segment], **how)

    def propose(self, segment: Segment, round=0) -> ProposeRequest:
        return ProposeRequest(envelope=self._at(round, segment), segment=segment)

    def swap(self, segment: Segment, responses: Sequence[PooledResponse], round=0, **targets: float) -> SwapRequest:
        about = {"envelope": self._at(round, segment), "segment": segment}
        return SwapRequest(**about, responses=list(responses), targets=targets)

    def submit(self, round=0) -> SubmitRequest:
        return SubmitRequest(envelope=self._at(round))

    def validate(self, samples=1, share=(0, 1), round=0) -> ValidateRequest:
        return ValidateRequest(envelope=self._at(round), samples=samples, share=share, name="x")

    def _at(self, round: int, segment: Segment | None = None) -> Envelope:
        return Envelope.here(self.spec.public_sha256, round, segment.index if segment else 0)


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level(logging.INFO, "fedrlvr")


@pytest.fixture
def requests_of():
    return Requests


@pytest.fixture
def set_up(site_files):
    """`set_up(job, ...)`: a worker's set-up at one site. `run` fields go to the `RunSpec`, `changes` to the site's
    file."""

    def make(job, site="site-1", labels=("A", "B"), recover=False, run: dict | None = None, **changes) -> SetUp:
        _, configs = site_files({site: labels}, **changes)
        spec = spec_of(job, configs, **(run or {}))
        return SetUp(spec=spec, site=site, site_config=configs[site], base_model=MODEL, recover=recover)

    return make


@pytest.fixture
def right_answers():
    """`right_answers(problems, sites)`: a right answer of each site to each problem of the protocol task."""
    gold = TASKS["protocol"].gold_completion

    def make(problems, sites=("site-8", "site-9")) -> list[PooledResponse]:
        return [(site, PublicResponse(p.id, gold(p))) for p in problems for site in sites]

    return make


@pytest.fixture
def supervised(left):
    """supervised(set-up) -> (supervisor, what it said when it started, requests). At the end no process is left."""
    supervisors = []

    def make(setup: SetUp, aborted=lambda: False):
        supervisor = Supervisor(setup, aborted)
        supervisors.append(supervisor)
        return supervisor, supervisor.start(), Requests(setup.spec)

    yield make
    for supervisor in supervisors:
        supervisor.stop()
    assert not left()
