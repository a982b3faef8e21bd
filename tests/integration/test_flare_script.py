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


def python(folder: Path, *arguments: object) -> str:
    """What it prints, run in `folder`."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The folder in which it ran, and its last lines: what each is of, and the rest."""
    folder = tmp_path_factory.mktemp("clone")
    lines = python(folder, SCRIPT, "--track").splitlines()[-3:]
    return folder, {line.split(":")[0]: line.split(":", 1)[1].strip() for line in lines}


def test_it_leaves_an_adapter_that_peft_loads_and_that_has_moved(ran):
    folder, said = ran
    adapter = load_file(Path(said["adapter (PEFT)"]) / "adapter_model.safetensors")
    first = initial_adapter({name: list(tensor.shape) for name, tensor in sorted(adapter.items())}, 0)
    assert l2_norm({name: adapter[name] - first[name] for name in adapter}) > 0.1
    (model,) = (folder / "workspace" / "flare_script" / "models").iterdir()
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), said["adapter (PEFT)"])
    assert loaded.peft_config["default"].r == 8


def test_it_says_where_every_number_is_and_flare_tracks_them(ran):
    folder, said = ran
    events = [json.loads(line) for line in Path(said["every number"]).read_text().splitlines()]
    assert [event["event"] for event in events].count("average") == 2
    assert events[-1]["event"] == "end"
    assert {event["site"] for event in events if event["event"] == "step"} == {"site-1", "site-2"}
    assert {path.parent.name for path in folder.rglob("events.out.tfevents*")} >= {"site-1", "site-2"}


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
