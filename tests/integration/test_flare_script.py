"""`jobs/flare_script/job.py` as somebody runs it who has just cloned the repository."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.privacy.mechanism import l2_norm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parents[2] / "jobs" / "flare_script" / "job.py"
WITHOUT_TENSORBOARD = """
import importlib.util, runpy, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "tensorboard" else found(name, *more)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def called(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Python, run in `folder`."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )


def python(folder: Path, *arguments: object) -> str:
    """What it prints, run in `folder`."""
    done = called(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def screen(tmp_path_factory) -> tuple[Path, str]:
    """The folder in which it ran, and all that is on the screen."""
    folder = tmp_path_factory.mktemp("clone")
    done = called(folder, SCRIPT, "--track")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout + done.stderr


@pytest.fixture(scope="module")
def ran(screen) -> tuple[Path, dict[str, str]]:
    """The folder in which it ran, and its last lines: what each is of, and the rest."""
    folder, said = screen
    return folder, {line.split(":")[0]: line.split(":", 1)[1].strip() for line in said.splitlines()[-4:]}


def test_the_screen_tells_the_scores_and_flares_chatter_is_in_its_logs(screen, ran):
    folder, said = screen
    assert len(said.splitlines()) < 40, said
    assert "INFO" not in said
    events = [json.loads(line) for line in Path(ran[1]["every number"]).read_text().splitlines()]
    for which, place in (("base", 0), ("global", -1)):
        last = [event for event in events if event["event"] == "evaluation" and event["which"] == which][-1]
        parts = [part for site in last["scores"].values() for part in site["test"].values()]
        right = sum(part["pass@1"] * part["problems"] for part in parts) / sum(part["problems"] for part in parts)
        (overall,) = (line for line in said.splitlines() if "test, overall" in line)
        assert f"{right:.3f}" == overall.strip("│ ").split("│")[1:][place].strip()
    (logs,) = (line.split()[-1] for line in said.splitlines() if line.startswith("FLARE's logs:"))
    logs = list(folder.glob(str(Path(logs).relative_to(folder))))
    assert {log.parent.name for log in logs} == {"server", "site-1", "site-2"}
    assert all("INFO" in log.read_text() for log in logs)


def test_tracking_without_its_package_is_said_before_anything_is_made(tmp_path):
    done = called(tmp_path, "-c", WITHOUT_TENSORBOARD, SCRIPT, "--track")
    assert done.returncode == 2
    assert "pip install tensorboard" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_does_not_exist_has_its_neighbour_named(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.read_text().replace('"num_generations"', '"num_generation"'))
    done = called(tmp_path, script)
    assert done.stderr.strip().endswith("grpo.num_generation: unknown setting; did you mean grpo.num_generations?")


def test_it_leaves_an_adapter_that_peft_loads_and_that_has_moved(ran):
    folder, said = ran
    adapter = load_file(Path(said["adapter (PEFT)"]) / "adapter_model.safetensors")
    first = initial_adapter({name: list(tensor.shape) for name, tensor in sorted(adapter.items())}, 0)
    assert l2_norm({name: adapter[name] - first[name] for name in adapter}) > 0.1
    (model,) = (folder / "workspace" / "flare_script" / "models").iterdir()
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), said["adapter (PEFT)"])
    assert loaded.peft_config["default"].r == 8


def test_it_says_where_every_number_is_and_flare_tracks_them(ran):
    _, said = ran
    events = [json.loads(line) for line in Path(said["every number"]).read_text().splitlines()]
    assert [event["event"] for event in events].count("average") == 2
    assert events[-1]["event"] == "end"
    assert {event["site"] for event in events if event["event"] == "step"} == {"site-1", "site-2"}
    tracked = Path(said["TensorBoard"].split("--logdir ")[1]).rglob("events.out.tfevents*")
    assert {path.parent.name for path in tracked} >= {"site-1", "site-2"}


def test_the_page_that_it_names_can_be_made(ran):
    _, *command = ran[1]["a page of it"].split()
    page = python(ran[0], "-m", "fedrlvr.cli", *command).strip()
    assert "site-2" in (ran[0] / page).read_text()


def test_flares_own_flags_have_it_write_the_job(ran):
    """In the same folder: it makes the problems again, and finds the model."""
    folder, _ = ran
    assert "Job exported to: fl_job" in python(folder, SCRIPT, "--export", "--export-dir", "fl_job")
    config = json.loads((folder / "fl_job" / "flare_script" / "app" / "config" / "config_fed_client.json").read_text())
    spec = json.loads(config["executors"][0]["executor"]["args"]["spec"])
    assert spec["job"]["federation"]["rounds"] == 2
    assert len(spec["public_ids"]) == 16
    assert not list((folder / "fl_job").rglob("*.py"))
