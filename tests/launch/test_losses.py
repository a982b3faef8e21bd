"""Each loss completes a small run over the local transport, with swapped completions, and repeats to the same bytes."""

import math

import pytest
from tests.runs import of, round_adapters, run_here, spec_of

LOSSES = {  # the settings that are not the default's, and a metric that is theirs
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28, "delta": 4.0}, "clip_ratio/high_mean"),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 5.0}, "cispo_clip_ratio"),
    "gspo": ({"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4}, "clip_ratio/low_mean"),
    "entropies": ({"top_entropy_quantile": 0.2, "entropy_coef": 0.01}, "clip_ratio/region_mean"),
}
TWO_STEPS = {"grpo__num_minibatches": 2}  # so that ratios are not 1


@pytest.mark.parametrize("name", LOSSES)
def test_a_run_ends_in_an_adapter_of_its_own_and_repeats(small_job, site_files, tmp_path, name):
    _, sites = site_files({"site-1": ("A",), "site-2": ("B",)})
    grpo, metric = LOSSES[name]
    ends = []
    for number, settings in enumerate((grpo, grpo, {})):
        job = small_job(**TWO_STEPS, **{f"grpo__{key}": value for key, value in settings.items()})
        events, run = run_here(tmp_path / str(number), spec_of(job, sites), sites)
        ends.append(round_adapters(run)[-1])
        steps = [event for event in of(events, "step") if event["optimizer_steps"]]
        assert sum(event.get("swap/completions", 0) for event in steps) > 0
        assert all(math.isfinite(event["loss"]) and event["grad_norm"] > 0 for event in steps)
        assert all((metric in event) or not settings for event in steps)
    assert ends[0] == ends[1] != ends[2]
