"""Clipping never lets through more than it says; noise has the size it says and cannot be drawn again."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedrlvr.privacy.mechanism import add_noise, clip, clip_gradient, l2_norm


def test_by_hand():
    adapter = {"a": torch.tensor([[3.0]]), "b": torch.tensor([0.0, 4.0])}
    assert l2_norm(adapter) == 5.0
    clipped, norm = clip(adapter, 2.5)
    assert norm == 5.0
    assert clipped["a"].tolist() == [[pytest.approx(1.5, rel=1e-6)]]
    assert clipped["b"].tolist() == [0.0, pytest.approx(2.0, rel=1e-6)]
    same, norm = clip(adapter, 5.0)
    assert same is adapter
    assert norm == 5.0
    assert clip({"a": torch.zeros(3)}, 1.0)[1] == 0.0


def test_a_gradient_is_clipped_over_all_its_tensors():
    gradient = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    parts, norm = clip_gradient(gradient, 2.5)
    assert norm == 5.0
    assert [part.tolist() for part in parts] == [[1.5], [[0.0, 2.0]]]  # jointly, not tensor by tensor
    assert [part.dtype for part in parts] == [torch.float64] * 2
    parts, norm = clip_gradient(gradient, 100.0)
    assert [part.tolist() for part in parts] == [[3.0], [[0.0, 4.0]]]
    assert clip_gradient([torch.zeros(3)], 1.0)[1] == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_counts_as_zero(value):
    parts, _ = clip_gradient([torch.tensor([1.0, value]), torch.tensor([2.0])], 1.0)
    assert all(bool((part == 0).all()) for part in parts)


@given(st.integers(0, 2**32), st.integers(1, 5000), st.floats(1e-6, 1e3), st.floats(1.001, 1e6))
def test_rounding_never_exceeds_the_norm(seed, size, clip_norm, excess):
    vector = torch.from_numpy(np.random.default_rng(seed).standard_normal(size))
    vector = (vector * (clip_norm * excess / float(vector.norm()))).float()
    clipped, _ = clip({"a": vector[: size // 2], "b": vector[size // 2 :]}, clip_norm)
    assert clip_norm * 0.999999 <= l2_norm(clipped) <= clip_norm


def test_noise_is_gaussian_of_the_given_size_and_independent():
    zeros = {"a": torch.zeros(300, 200), "b": torch.zeros(40_000)}
    noise = add_noise(zeros, 2.0, np.random.default_rng(0))
    values = torch.cat([noise["a"].flatten(), noise["b"]]).double()
    assert noise["a"].dtype == torch.float32
    # 100,000 numbers: the standard error of the mean is 2/316, of the deviation 2/447.
    assert abs(float(values.mean())) < 5 * 2 / 316
    assert abs(float(values.std()) - 2.0) < 5 * 2 / 447
    assert abs(float((values / 2).pow(4).mean()) - 3.0) < 5 * 96**0.5 / 316  # the kurtosis of a Gaussian
    assert abs(float((noise["a"].flatten()[:40_000] * noise["b"]).mean())) < 5 * 4 / 200


def test_noise_is_added_and_secret():
    ones = {"a": torch.ones(1000)}
    torch.manual_seed(3)
    np.random.seed(3)
    first = add_noise(ones, 1.0)["a"]
    torch.manual_seed(3)
    np.random.seed(3)
    assert not torch.equal(first, add_noise(ones, 1.0)["a"])
    assert float(first.mean()) == pytest.approx(1.0, abs=0.2)
