"""Which charges count for which budget, and what one more charge costs."""

import os

import pytest

from fedrlvr.privacy.accountant import ExampleNoise, SiteNoise, epsilon
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.protocol.refused import Refused

ONE, DELTA = SiteNoise(1.0), 1e-5
V1, V2 = "1" * 64, "2" * 64  # hashes of two versions of the private problems


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def spent_on(ledger: Ledger, source: Source) -> float:
    return epsilon(ledger.charges(source, SiteNoise), DELTA)


def test_another_name_for_the_model_is_no_new_budget(path):
    """What shares a model or data is one budget, directly or by way of others; the two units stay apart."""
    ledger, limit = Ledger(path, "ward-7"), epsilon([SiteNoise(1.0, 4)], DELTA)
    for source in (Source("m", V1), Source("renamed", V1), Source("m", V2), Source("another", V2)):
        ledger.charge(source, "job", ONE, DELTA, limit)
    for source in (Source("m", V1), Source("m"), Source("m", "3" * 64), Source("new", V1), Source("another")):
        assert spent_on(ledger, source) == pytest.approx(limit)
        with pytest.raises(Refused, match=r"the privacy budget for .* is spent"):
            ledger.charge(source, "job", ONE, DELTA, limit)
    assert spent_on(ledger, Source("new", "3" * 64)) == spent_on(ledger, Source("new")) == 0.0
    assert ledger.charges(Source("m", V1), ExampleNoise) == []
    ledger.charge(Source("new"), "job", ONE, DELTA, limit)  # of unknown data: by its model alone
    ledger.charge(Source("newer"), "job", ONE, DELTA, limit)
    assert ledger.budgets() == [
        [Source("another", V2), Source("m", V1), Source("m", V2), Source("renamed", V1)],
        [Source("new")],
        [Source("newer")],
    ]


def test_charges_that_differ_only_in_their_number_are_one(path):
    ledger = Ledger(path, "ward-7")
    for steps, noise in ((3, 1.0), (4, 2.0), (5, 1.0)):
        ledger.charge(Source("m", V1), "job", ExampleNoise(0.1, noise, 1, steps), DELTA, None)
    assert sorted(c.steps for c in ledger.charges(Source("m", V1), ExampleNoise)) == [4, 8]


def test_a_charge_reads_no_more_of_a_long_ledger_than_of_a_short_one(path, monkeypatch, bytes_read):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    ledger, cost = Ledger(path, "ward-7"), {}
    for number in range(1, 1501):
        if number in (50, 1500):
            cost[number] = bytes_read(lambda: ledger.charge(Source("m", V1), "job", ONE, DELTA, None))
        else:
            ledger.charge(Source("m", V1), "job", ONE, DELTA, None)
    assert path.stat().st_size > 400_000
    assert cost[1500] < 2 * cost[50] < 100_000
    assert spent_on(ledger, Source("m")) == pytest.approx(epsilon([SiteNoise(1.0, 1500)], DELTA))
