"""What most sites have is what a job goes by, worked out by hand."""

from __future__ import annotations

from fedrlvr.server.agreement import agreement

SMALL, LARGE = {"q.lora_A": [2, 4], "q.lora_B": [4, 2]}, {"q.lora_A": [8, 4], "q.lora_B": [4, 8]}


def test_nobody_said_anything():
    assert agreement({}) == ({}, {})


def test_all_agree_and_names_are_sorted():
    backwards = dict(reversed(SMALL.items()))
    spec, dissenters = agreement({"a": ("m1", backwards), "b": ("m1", SMALL)})
    assert list(spec) == ["q.lora_A", "q.lora_B"]
    assert spec == SMALL
    assert dissenters == {}


def test_one_with_another_model_is_named_with_both_values():
    spec, dissenters = agreement({"a": ("m2", SMALL), "b": ("m1", SMALL), "c": ("m1", SMALL)})
    assert spec == SMALL
    assert dissenters == {"a": "base model differs: most sites have m1, this one m2"}


def test_one_with_other_shapes_is_out_with_both_values():
    spec, dissenters = agreement({"a": ("m1", LARGE), "b": ("m1", SMALL), "c": ("m1", SMALL)})
    assert spec == SMALL
    assert dissenters == {"a": "adapter differs: 'q.lora_A' is [2, 4] at most sites, [8, 4] at this one"}


def test_one_with_other_tensors_is_out_with_what_is_missing_and_nothing_that_moves_a_cursor():
    fewer, more = {"q.lora_A": [2, 4]}, SMALL | {"\x1b[2J" + "x" * 999: [1, 1]}
    _, dissenters = agreement({"a": ("m1", fewer), "b": ("m1", SMALL), "c": ("m1", SMALL), "d": ("m1", more)})
    assert dissenters["a"] == "adapter differs: 'q.lora_B' is [4, 2] at most sites, missing at this one"
    assert dissenters["d"].endswith("x' is missing at most sites, [1, 1] at this one")
    assert "\x1b" not in dissenters["d"]
    assert len(dissenters["d"]) < 300


def test_between_equals_the_first_is_taken():
    spec, dissenters = agreement({"a": ("m2", LARGE), "b": ("m1", SMALL)})
    assert spec == LARGE
    assert list(dissenters) == ["b"]


def test_the_shapes_are_those_of_a_site_with_the_agreed_model():
    """Two with the usual model and one shape each; two more of that shape have a model each of their own. By shapes
    alone LARGE would win, three to two, and nobody with the usual model would be left."""
    said = {"a": ("m1", SMALL), "b": ("m1", SMALL), "c": ("m2", LARGE), "d": ("m3", LARGE), "e": ("m4", LARGE)}
    spec, dissenters = agreement(said)
    assert spec == SMALL
    assert list(dissenters) == ["c", "d", "e"]
