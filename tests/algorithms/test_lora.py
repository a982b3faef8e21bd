"""LoRA factors by name, and the adapter that every site starts from."""

import pytest
import torch

from fedrlvr.algorithms.lora import adapter_spec, factor_pairs, initial_adapter, spec_hash
from fedrlvr.config import LoraSettings

SPEC = {
    "m.1.v.lora_A.weight": [4, 64],
    "m.1.v.lora_B.weight": [32, 4],
    "m.0.q.lora_B.weight": [16, 4],
    "m.0.q.lora_A.weight": [4, 400],
}


def test_every_a_is_paired_with_the_b_of_its_layer():
    assert factor_pairs(SPEC) == [
        ("m.0.q.lora_A.weight", "m.0.q.lora_B.weight"),
        ("m.1.v.lora_A.weight", "m.1.v.lora_B.weight"),
    ]


@pytest.mark.parametrize("name", ["m.1.v.lora_A.weight", "m.0.q.lora_B.weight"])
def test_a_factor_without_its_partner_is_an_error_that_names_both(name):
    orphaned = set(SPEC) - {name}
    partner = name.replace("_A.", "_X.").replace("_B.", "_A.").replace("_X.", "_B.")
    with pytest.raises(ValueError, match=f"{partner} has no partner {name}"):
        factor_pairs(orphaned)


def test_a_tensor_that_is_no_factor_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"m\.norm\.weight is not a LoRA factor"):
        factor_pairs([*SPEC, "m.norm.weight"])


def test_a_spec_says_the_shapes_in_sorted_order():
    spec = adapter_spec({"b": torch.zeros(2, 3), "a": torch.zeros(1)})
    assert list(spec.items()) == [("a", [1]), ("b", [2, 3])]


def test_the_initial_adapter_leaves_the_base_model_unchanged():
    adapter = initial_adapter(SPEC, seed=1)
    assert list(adapter) == sorted(SPEC)
    assert adapter_spec(adapter) == SPEC
    for name_a, name_b in factor_pairs(adapter):
        assert not (adapter[name_b] @ adapter[name_a]).any()
        assert adapter[name_a].all()


def test_a_is_uniform_within_one_over_the_root_of_its_inputs():
    """400 inputs: within 1/20 on both sides, mean 0, standard deviation 1/20/sqrt(3)."""
    a = initial_adapter(SPEC, seed=1)["m.0.q.lora_A.weight"]
    assert 0.049 < float(a.max()) <= 0.05
    assert -0.05 <= float(a.min()) < -0.049
    assert float(a.mean()) == pytest.approx(0, abs=0.003)
    assert float(a.std()) == pytest.approx(0.05 / 3**0.5, rel=0.05)


def test_equal_seeds_give_equal_adapters_and_other_seeds_others():
    first, again, other = initial_adapter(SPEC, 1), initial_adapter(SPEC, 1), initial_adapter(SPEC, 2)
    name = "m.0.q.lora_A.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_layers_of_one_shape_are_drawn_apart():
    spec = {f"m.{i}.q.lora_{f}.weight": [3, 3] for i in range(2) for f in "AB"}
    adapter = initial_adapter(spec, seed=1)
    assert not torch.equal(adapter["m.0.q.lora_A.weight"], adapter["m.1.q.lora_A.weight"])


def test_adapting_a_further_layer_does_not_move_the_others():
    more = SPEC | {"m.0.a.lora_A.weight": [4, 8], "m.0.a.lora_B.weight": [8, 4]}
    small, large = initial_adapter(SPEC, 1), initial_adapter(more, 1)
    assert all(torch.equal(small[name], large[name]) for name in SPEC)


def test_the_initial_adapter_does_not_touch_the_global_random_state():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    initial_adapter(SPEC, 1)
    assert torch.equal(torch.rand(3), expected)


def test_a_specs_hash_does_not_depend_on_how_it_is_held():
    """Order, and shapes as tuples or as the lists that a message has."""
    expected = spec_hash(SPEC, LoraSettings())
    assert spec_hash(dict(reversed(SPEC.items())), LoraSettings()) == expected
    assert spec_hash({name: tuple(shape) for name, shape in SPEC.items()}, LoraSettings()) == expected


@pytest.mark.parametrize(
    "changed",
    [
        {"m.1.v.lora_A.weight": [4, 65]},
        {"m.1.v.lora_A.weight": [64, 4]},
        {"m.2.v.lora_A.weight": [4, 64]},
        {"r": 9},
        {"alpha": 17.0},
        {"dropout": 0.1},
        {"target_modules": ["v_proj"]},
        {"target_modules": "all-linear"},
    ],
)
def test_another_name_shape_or_setting_has_another_hash(changed):
    shapes = {name: value for name, value in changed.items() if name.startswith("m.")}
    settings = LoraSettings(**{name: value for name, value in changed.items() if name not in shapes})
    assert spec_hash(SPEC | shapes, settings) != spec_hash(SPEC, LoraSettings())


def test_a_lost_layer_has_another_hash():
    fewer = {name: SPEC[name] for name in SPEC if name.startswith("m.0")}
    assert spec_hash(fewer, LoraSettings()) != spec_hash(SPEC, LoraSettings())
