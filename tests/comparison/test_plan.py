"""Which runs a plan comes to, and what is wrong with one."""

from pathlib import Path

import pytest

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.comparison.plan import Cell, Plan, cells_of, run_of
from fedrlvr.settings_file import SettingsError, load_settings, validate_settings

SHIPPED = Path(__file__).parents[2] / "jobs" / "compare" / "plan.yaml"
DEMO = Path(__file__).parents[2] / "app_configs" / "demo.yaml"


def plan(**study) -> Plan:
    first = {"title": "Skew", "question": "?", "preset": str(DEMO), "methods": ["pubswap", "fedavg"]} | study
    values = {"seeds": [10, 11], "base_models": [0, 1], "quick_seeds": [10], "studies": {"skew": first}}
    return validate_settings(Plan, values, "plan")


def test_a_plan_is_every_variant_for_every_seed_and_base_model():
    cells = cells_of(plan(variants={"rank": ["lora.r=4"]}), ["skew"])
    assert len(cells) == len(set(cells)) == 3 * 2 * 2
    assert [str(cell) for cell in cells[:4]] == [
        "skew/pubswap-model0-seed10",
        "skew/fedavg-model0-seed10",
        "skew/rank-model0-seed10",
        "skew/pubswap-model1-seed10",
    ]


def test_seeds_of_the_command_go_over_those_of_the_plan():
    assert {cell.seed for cell in cells_of(plan(), ["skew"], seeds=(7,))} == {7}


def test_a_quick_comparison_has_one_base_model_and_the_variants_that_a_study_names():
    cells = cells_of(plan(quick=["fedavg"]), ["skew"], quick=True)
    assert cells == [Cell("skew", "fedavg", 0, 10)]
    assert cells_of(plan(), ["skew"], quick=True) == []


def test_a_cell_has_the_settings_of_its_study_and_variant():
    found = plan(set=["grpo.beta=0.1"], variants={"rank": ["lora.r=4", "method=fedavg+public"]})
    run = run_of(found, Cell("skew", "rank", 1, 12))
    experiment = run.experiment
    assert (experiment.lora.r, experiment.grpo.beta, experiment.method) == (4, 0.1, "fedavg+public")
    assert (experiment.seed, experiment.base_model.seed) == (12, 1)
    assert run.settings != run_of(found, Cell("skew", "rank", 0, 12)).settings


def test_slow_sites_make_another_run():
    cell = Cell("skew", "pubswap", 0, 10)
    run, slower = run_of(plan(), cell), run_of(plan(slow={"site-4": 4}), cell)
    assert (run.slow, slower.slow) == ({}, {"site-4": 4})
    assert run.settings != slower.settings


def test_a_slow_site_must_be_one(tmp_path):
    with pytest.raises(SettingsError, match="skew/pubswap-model0-seed10: slow: there is no site 'site4'"):
        run_of(plan(slow={"site4": 4}), Cell("skew", "pubswap", 0, 10))


def test_what_a_small_file_says_counts_and_not_its_name(tmp_path):
    policies = []
    for name, text in (("a", "responses: {share: true}"), ("b", "responses: {share: true}"), ("c", "metrics: {}")):
        (tmp_path / f"{name}.yaml").write_text(text)
        found = plan(set=[f"policy={tmp_path / name}.yaml"])
        policies.append(run_of(found, Cell("skew", "pubswap", 0, 10)).settings)
    assert policies[0] == policies[1] != policies[2]


def test_problems_and_model_are_for_studies_with_a_real_model(tmp_path):
    cell = Cell("skew", "pubswap", 0, 10)
    assert run_of(plan(), cell, tmp_path, tmp_path).data is None
    real = run_of(plan(real_model=True), cell, tmp_path / "a", tmp_path)
    assert (real.data, real.model) == (tmp_path / "a", tmp_path)
    assert real.settings != run_of(plan(real_model=True), cell, tmp_path / "b", tmp_path).settings


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ({"reference": "local"}, "reference: there is no variant 'local'; there are: pubswap, fedavg"),
        ({"quick": ["local"]}, "quick: there is no variant 'local'"),
        ({"methods": ["pubsawp"]}, "studies.skew.methods"),
        ({"variants": {"a b": []}}, "studies.skew.variants"),
    ],
)
def test_a_study_that_cannot_be_is_refused(study, words):
    with pytest.raises(SettingsError) as error:
        plan(**study)
    assert words in str(error.value)


def test_a_wrong_setting_names_the_cell():
    with pytest.raises(SettingsError, match=r"skew/x-model0-seed10: .*lora\.rr"):
        run_of(plan(variants={"x": ["lora.rr=4"]}), Cell("skew", "x", 0, 10))


def test_the_shipped_plan_compares_every_method_on_seeds_that_no_setting_was_chosen_on():
    shipped = load_settings(Plan, SHIPPED)
    assert set(shipped.studies["two-averages"].methods) == set(METHODS)
    cells = cells_of(shipped, list(shipped.studies))
    assert min(cell.seed for cell in cells) >= 10
    assert len(shipped.seeds) >= 5
    assert len(shipped.base_models) >= 2
    for cell in {(c.study, c.variant): c for c in cells}.values():
        run_of(shipped, cell)
