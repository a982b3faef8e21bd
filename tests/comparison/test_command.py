"""The command: what it refuses, and real runs, of which one fails and one is not done again."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml

from fedrlvr.comparison.command import seeds
from fedrlvr.comparison.plan import Plan, cells_of, run_of
from fedrlvr.comparison.runner import find_records, record_path
from fedrlvr.processes import wait_until
from fedrlvr.settings_file import validate_settings

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "jobs" / "compare" / "job.py"
SMALL = [
    "base_model={steps: 0, hidden_size: 32, num_layers: 1}",
    "federation={rounds: 1, segments_per_round: 1, min_sites: 2}",
    "data={sites: {site-1: [A], site-2: [B]}, private_per_site: 8, heldout_per_site: 2, public: 4, test_per_label: 2}",
    "grpo={num_generations: 2, prompts_per_step: 2, max_completion_length: 4}",
    "evaluation={samples: 1}",
    "exchange={prompts_per_step: 2}",
    "swap={keep_incorrect: 1}",
]


@pytest.fixture
def plan(tmp_path):
    study = {
        "title": "Small",
        "question": "Does it run?",
        "preset": str(REPOSITORY / "app_configs" / "demo.yaml"),
        "set": SMALL,
        "methods": ["pubswap", "fedavg"],
        "variants": {"broken": ["data.test_per_label=20000"]},
    }
    path = tmp_path / "plan.yaml"
    values = {"seeds": [3], "base_models": [0], "quick_seeds": [3], "studies": {"small": study}}
    path.write_text(yaml.safe_dump(values))
    return path


def compare(plan: Path, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, "--plan", plan, "--workspace", plan.parent / "w", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_run_that_fails_costs_no_other_and_what_is_done_is_not_done_again(plan):
    first = compare(plan)
    assert first.returncode == 1
    assert re.search(r"failed: small/broken-model0-seed3: .*too few distinct problems", first.stderr)
    assert "| `pubswap` |" in first.stdout
    workspace = plan.parent / "w"
    records = {path.name: json.loads(path.read_text()) for path in workspace.glob("records/small/*.json")}
    assert set(records) == {"pubswap-model0-seed3.json", "fedavg-model0-seed3.json"}
    works = [record["work"] for record in records.values()]
    assert works[0]["completions"] == works[1]["completions"] == 2 * 2 * 2 * 2
    assert (workspace / "comparison.html").stat().st_size > 10_000
    assert [path.name for path in (workspace / "results").iterdir()] == ["small.json"]
    assert not [path for path in workspace.iterdir() if path.name.startswith("demo-") and "pubswap" in path.name]
    second = compare(plan)
    assert "3 runs, 2 are done, 1 to do" in second.stdout
    assert "1/1  small/broken" in second.stdout


@pytest.mark.slow
def test_no_process_outlives_the_command(plan):
    command = subprocess.Popen(
        [sys.executable, SCRIPT, "--plan", plan, "--workspace", plan.parent / "w", "--processes", "2"],
        stdout=subprocess.DEVNULL,
    )
    try:
        parent = psutil.Process(command.pid)
        assert wait_until(lambda: len(parent.children()) >= 3, 60)  # two that run cells, and Python's resource tracker
        children = parent.children()
    finally:
        command.kill()
        command.wait()
    _, alive = psutil.wait_procs(children, 20)
    assert not alive


def test_one_run_serves_every_cell_of_the_same_settings(tmp_path, record):
    """Of another seed or another code there is none; with any_source, one of other code serves, too."""
    values = {"title": "t", "question": "?", "preset": str(REPOSITORY / "app_configs" / "demo.yaml")}
    studies = {"one": values | {"methods": ["pubswap"]}, "two": values | {"variants": {"pubswap": []}}}
    plan = validate_settings(Plan, {"seeds": [3], "base_models": [0], "quick_seeds": [3], "studies": studies}, "plan")
    one, two = cells_of(plan, ["one", "two"])
    cells = {cell: run_of(plan, cell) for cell in (one, two, replace(one, seed=4))}
    path = record_path(tmp_path, one)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record(**cells[one].identity)))
    found = find_records(tmp_path, cells)
    assert {cell: (r["study"], r["final"]) for cell, r in found.items()} == {one: ("one", 0.9), two: ("two", 0.9)}
    path.write_text(json.dumps(record(settings=cells[one].settings, source="of other code")))
    assert find_records(tmp_path, cells) == {}
    assert set(find_records(tmp_path, cells, any_source=True)) == {one, two}
    path.write_text(json.dumps(record(settings="of other settings", source="of other code")))
    assert find_records(tmp_path, cells, any_source=True) == {}
    path.write_text("{")
    assert find_records(tmp_path, cells, any_source=True) == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--studies", "large"], "--studies large: there are small"),
        (["--plan", "none.yaml"], "none.yaml: cannot be read"),
        (["--seeds", "x"], "--seeds"),
        (["--processes", "0"], "--processes"),
    ],
)
def test_what_cannot_be_run_is_told_at_once(plan, arguments, words):
    done = compare(plan, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "found"), [("10-12", (10, 11, 12)), ("3", (3,)), ("5,3,5", (5, 3)), ("1-2,9", (1, 2, 9))]
)
def test_seeds(text, found):
    assert seeds(text) == found


@pytest.mark.parametrize("text", ["", "3-1", "a", "1-"])
def test_no_seeds(text):
    with pytest.raises(ValueError):
        seeds(text)
