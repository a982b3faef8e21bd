"""The averages that leave out or shorten, by hand, and what one strange site can do to them."""

import pytest
import torch

from fedrlvr.algorithms.aggregate import AGGREGATORS
from fedrlvr.algorithms.robust import median, norm_bounded, trimmed_mean
from fedrlvr.config import FederationSettings

A, B = "q.lora_A.weight", "q.lora_B.weight"
HALVES = [0.5, 0.5]  # how much each update weighs
START = {A: torch.tensor([[10.0, 20.0]]), B: torch.tensor([[1.0], [2.0]])}


def update(a, b) -> dict[str, torch.Tensor]:
    return {A: torch.tensor([a]), B: torch.tensor(b).unsqueeze(-1)}


def told(adapter) -> tuple[list[float], list[float]]:
    return adapter[A].flatten().tolist(), adapter[B].flatten().tolist()


def test_the_median_is_of_each_number_by_itself():
    """Of 1, 5, 2 it is 2 and of 0, -4, 9 it is 0, from different sites."""
    updates = [update([1.0, 0.0], [0.0, 3.0]), update([5.0, -4.0], [0.0, 1.0]), update([2.0, 9.0], [6.0, 2.0])]
    assert told(median(START, updates)) == ([12.0, 20.0], [1.0, 4.0])
    assert told(median(START, updates[:2])) == ([13.0, 18.0], [1.0, 4.0])  # of two, their mean
    assert told(median(START, updates[:1])) == ([11.0, 20.0], [1.0, 5.0])


def test_the_trimmed_mean_leaves_out_the_share_at_each_end():
    """Of 1, 2, 3, 6, 100 the mean of 2, 3, 6 with a fifth left out, and 3 with two fifths."""
    values = [6.0, 100.0, 1.0, 3.0, 2.0]
    updates = [update([v, -v], [0.0, v]) for v in values]
    a, b = told(trimmed_mean(START, updates, 0.2))
    assert a == pytest.approx([10 + 11 / 3, 20 - 11 / 3])
    assert b == pytest.approx([1.0, 2 + 11 / 3])
    assert told(trimmed_mean(START, updates, 0.4)) == ([13.0, 17.0], [1.0, 5.0])
    assert told(trimmed_mean(START, updates, 0.49999999999)) == ([13.0, 17.0], [1.0, 5.0])


@pytest.mark.parametrize(("fraction", "least"), [(0.2, 5), (0.4, 3), (0.34, 3), (0.1, 10), (0.29, 4)])
def test_a_trimmed_mean_of_too_few_sites_is_an_error_from_the_quorum_on_that_settings_ask_for(
    small_job, fraction, least
):
    settings = {"federation__aggregator": "trimmed_mean", "federation__trim_fraction": fraction}
    updates = [update([1.0, 1.0], [1.0, 1.0])] * least
    trimmed_mean(START, updates, fraction)
    small_job(**settings, federation__min_sites=least)
    with pytest.raises(ValueError, match=f"of {least - 1} updates, trim_fraction {fraction} leaves out none"):
        trimmed_mean(START, updates[1:], fraction)
    with pytest.raises(ValueError, match=f"min_sites is {least - 1}, .* it takes {least} sites"):
        small_job(**settings, federation__min_sites=least - 1)


def test_a_long_update_is_scaled_down_as_a_whole():
    """(6, 0, 0, 8) has norm 10 and becomes half of it at 5; (3, 0, 0, 4) stays."""
    updates = [update([6.0, 0.0], [0.0, 8.0]), update([3.0, 0.0], [0.0, 4.0])]
    assert told(norm_bounded(START, updates, HALVES, 5.0)) == ([13.0, 20.0], [1.0, 6.0])
    assert told(norm_bounded(START, updates, HALVES, 100.0)) == ([14.5, 20.0], [1.0, 8.0])
    assert told(norm_bounded(START, updates, HALVES, 2.5)) == ([11.5, 20.0], [1.0, 4.0])
    assert told(norm_bounded(START, updates, [1.0, 0.0], 5.0)) == ([13.0, 20.0], [1.0, 6.0])


def test_without_a_bound_it_is_the_median_norm_of_the_round():
    """Norms 1, 2, 9: bound 2. An update of nothing has norm 0, and stays."""
    updates = [update([v, 0.0], [0.0, 0.0]) for v in (1.0, 9.0, -2.0)]
    assert told(norm_bounded(START, updates, [1 / 3] * 3, None))[0] == pytest.approx([10 + 1 / 3, 20.0])
    nothing = [update([0.0, 0.0], [0.0, 0.0])] * 2
    assert told(norm_bounded(START, nothing, HALVES, None)) == told(START)


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "norm_bounded"])
def test_one_strange_site_moves_the_average_little(name):
    """Nine sites agree but for noise; what the tenth sends is a thousand times as long, and backwards."""
    generator = torch.Generator().manual_seed(0)
    honest = [{n: 1 + 0.1 * torch.randn(t.shape, generator=generator) for n, t in START.items()} for _ in range(9)]
    strange = [{n: torch.full_like(t, -1000.0) for n, t in START.items()}]
    found = AGGREGATORS[name](START, honest + strange, FederationSettings())
    plain = AGGREGATORS["fedit"](START, honest + strange)
    for n, tensor in START.items():
        assert bool((found[n] - tensor > 0.7).all())
        assert bool((plain[n] - tensor < -90).all())
