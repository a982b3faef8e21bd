"""The comparison's arithmetic, by hand, and what it refuses to compare."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedrlvr.report.compare import NotComparable, comparison

SCRIPT = Path(__file__).parents[2] / "jobs" / "demo" / "compare.py"
JOB = {"name": "demo", "task": "protocol", "grpo": {"prompts_per_step": 8}, "federation": {"rounds": 2, "min_sites": 4}}


def run(method, seed, value, finished=True, sites=4, base_model="m", **groups):
    final = {"test": {"overall": {"pass@1": value}}}
    job = JOB | groups | {"method": method, "seed": seed}
    names = [f"site-{number}" for number in range(sites)]
    about = {"finished": finished, "final": final, "job": job, "base_model": base_model, "test_sha256": f"of {seed}"}
    return {"method": method, "seed": seed, "sites": names} | about


def compared(*runs) -> list[str]:
    return comparison({f"run-{number}": one for number, one in enumerate(runs)}).markdown().splitlines()


def test_differences_are_paired_by_seed():
    """Both vary a lot and in step: the paired difference is 0.2 exactly."""
    runs = [run("pubswap", 1, 0.9), run("pubswap", 2, 0.5), run("fedavg", 1, 0.7), run("fedavg", 2, 0.3)]
    assert compared(*runs)[2:] == [
        "| `pubswap` | 0.90 | 0.50 | 0.70 ± 2.54 |  |",
        "| `fedavg` | 0.70 | 0.30 | 0.50 ± 2.54 | 0.20 ± 0.00 |",
    ]


def test_runs_that_did_not_finish_do_not_count_and_missing_seeds_stay_empty():
    runs = [run("pubswap", 1, 0.9), run("local", 2, 0.2), run("local", 3, 0.9, finished=False)]
    head, _, first, second = compared(*runs)
    assert head == "| method | seed 1 | seed 2 | mean | pubswap ahead by |"
    assert first == "| `pubswap` | 0.90 |  | 0.90 |  |"
    assert second == "| `local` |  | 0.20 | 0.20 |  |"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (run("fedavg", 1, 0.5, task="math"), "task is 'protocol' in the first and 'math'"),
        (run("fedavg", 1, 0.5, name="arithmetic"), "name is 'demo'"),
        (run("fedavg", 1, 0.5, federation={"rounds": 3, "min_sites": 4}), "federation.rounds is 2"),
        (run("fedavg", 1, 0.5, grpo={"prompts_per_step": 8, "beta": 0.1}), "grpo.beta is None"),
        (run("fedavg", 1, 0.5, sites=2), "sites is ['site-0', 'site-1', 'site-2', 'site-3'] in the first"),
        (run("fedavg", 1, 0.5) | {"test_sha256": "other"}, "test_sha256 is 'of 1'"),
        (run("fedavg", 1, 0.5, base_model="n"), "base_model is 'm'"),
    ],
)
def test_runs_of_other_settings_are_refused(other, words):
    with pytest.raises(NotComparable, match="run-0 and run-1 differ") as error:
        compared(run("pubswap", 1, 0.9), other)
    assert words in str(error.value)


def test_centralised_has_one_site_and_its_larger_batch():
    whole = {"grpo": {"prompts_per_step": 32}, "federation": {"rounds": 2, "min_sites": 1}}
    runs = run("pubswap", 1, 0.9), run("centralised", 1, 0.8, sites=1, **whole), run("fedavg", 1, 0.5)
    assert len(compared(*runs)) == 5
    other = run("fedavg", 1, 0.5, sites=2)
    with pytest.raises(NotComparable, match="run-0 and run-2 differ"):
        compared(*runs[:2], other)
    with pytest.raises(NotComparable, match="rounds"):
        compared(run("pubswap", 1, 0.9), run("centralised", 1, 0.8, federation={"rounds": 3}))


def test_two_runs_of_one_method_and_seed_are_named():
    with pytest.raises(NotComparable, match="run-0 and run-2 are both pubswap with seed 1"):
        compared(run("pubswap", 1, 0.9), run("fedavg", 1, 0.5), run("pubswap", 1, 0.8))


def test_nothing_that_finished_is_nothing_to_compare():
    with pytest.raises(NotComparable, match="none of these runs finished"):
        compared(run("pubswap", 1, 0.9, finished=False))


def script(*paths) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *paths], capture_output=True, text=True)


def test_the_command_says_what_is_wrong_with_a_file(tmp_path):
    good, bad, old = (tmp_path / name for name in ("good.json", "bad.json", "old.json"))
    good.write_text(json.dumps(run("pubswap", 1, 0.9)))
    bad.write_text("{")
    old.write_text(json.dumps({"method": "pubswap"}))
    done = script(good)
    assert (done.returncode, done.stdout.splitlines()[2]) == (0, "| `pubswap` | 0.90 | 0.90 |  |")
    for path, words in ((tmp_path / "none.json", "cannot be read"), (bad, "not the summary"), (old, "not the summary")):
        done = script(good, path)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert script().returncode == 2
    shutil.copy(good, old)
    assert "both pubswap with seed 1" in script(good, old).stderr
