"""Bad input on the command line ends with one message and code 2, before anything starts."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.runs import some_spec

from fedrlvr.config import JobConfig
from fedrlvr.launch import stages
from fedrlvr.launch.job import run
from fedrlvr.launch.prepared_run import PreparedRun, load_run
from fedrlvr.launch.stages import follow
from fedrlvr.protocol.refused import Refused
from fedrlvr.report import run_folder
from fedrlvr.report.screen import Screen
from fedrlvr.run import claim
from fedrlvr.site_config import SiteConfig

DEMO = Path(__file__).parents[2] / "app_configs" / "demo.yaml"
TINY = ["base_model.steps=1", "base_model.batch_size=4"]


def launch(
    tmp_path, *settings: str, config: Path = DEMO, workspace: str = "workspace", env: str = "sim", **given
) -> int:
    values = Namespace(
        config=config, set=[*TINY, *settings], method=None, seed=None, workspace=tmp_path / workspace,
        env=env, poc=None, kit=None, rebuild_model=False, data=None, model=None, tiny=False, policy=None,
        resume_from=None, start_from=None, track=None,
    )  # fmt: skip
    return run(Namespace(**vars(values) | given))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("grpo.num_generation=4", "grpo.num_generation: unknown setting; did you mean grpo.num_generations?"),
        ("learning_rate=1", "learning_rate: unknown setting; did you mean optimizer.learning_rate?"),
        ("grpo.epsilon=high", "grpo.epsilon: Input should be a valid number"),
        (
            "federation.aggregator=mean",
            "'trimmed_mean' or 'norm_bounded' (found 'mean')",
        ),
        ("swap.keep_incorrect=8", "nothing could ever be swapped"),
        ("exchange.schedule=[0, 99]", "names public step 99, but there are only 16"),
        ("task=poetry", "no task is called 'poetry'; known: arithmetic, choice, dosage, math, protocol"),
        ("data.public=0", "data.public: Input should be greater than or equal to 1 (found 0)"),
        ("data.sites={a: [Q], b: [A], c: [B], d: [C]}", "task protocol has no label 'Q'; it has A, B, C, D"),
        ("deepspeed=deepspeed/zero9.json", "deepspeed: no such file"),
        ("federation.min_sites=5", "federation.min_sites is 5, but there are only 4 sites"),
        ("start_from=/nonexistent", "start_from: /nonexistent cannot be read as a PEFT directory with safetensors"),
        ("oops", "--set oops: expected key=value"),
    ],
)
def test_a_bad_setting(tmp_path, capsys, setting, message):
    assert launch(tmp_path, setting) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("workspace/demo-*"))  # no run began


def test_a_config_that_is_not_there(tmp_path, capsys):
    assert launch(tmp_path, config=tmp_path / "none.yaml") == 2
    assert "none.yaml: cannot be read" in capsys.readouterr().err


def test_a_workspace_that_flare_cannot_use(tmp_path, capsys):
    assert launch(tmp_path, workspace="with space") == 2
    assert "--workspace: FLARE cannot work under a path with a space" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("env", "given", "message"),
    [
        ("poc", {}, "no proof of concept in"),
        ("poc", {"method": "centralised"}, "--method centralised: all problems in one place"),
        ("prod", {"method": "centralised"}, "--method centralised: all problems in one place"),
        ("prod", {"policy": DEMO}, "--policy: has no effect with --env prod, where each site has its own"),
        ("prod", {}, "--env prod needs --kit DIR: your own startup kit"),
        ("prod", {"kit": Path("nowhere")}, "--env prod needs --data DIR: the consortium's public.jsonl"),
        ("prod", {"kit": Path("nowhere"), "data": Path("nowhere")}, "nowhere: not an administrator's startup kit"),
    ],
)
def test_what_another_environment_needs(tmp_path, capsys, env, given, message):
    assert launch(tmp_path, env=env, **given) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("workspace/*"))


def a_run(folder: Path) -> Path:
    job = JobConfig(task="protocol", model="tiny")
    spec = some_spec(job, public_ids=["p1"])
    PreparedRun(folder=folder, spec=spec, base_model="models/tiny").save()
    return folder


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": 3}, "--seed: the run that --resume-from names has it already; leave it out"),
        ({"start_from": Path("a")}, "--start-from: the run that --resume-from names has it already; leave it out"),
        ({"tiny": True}, "--tiny, --rebuild-model: the run that --resume-from names is made already"),
        ({"set": ["grpo.epsilon=0.3"]}, "only evaluation.* and federation.{max_update_norm,min_sites,rounds,step_dea"),
        ({"set": ["federation.round=3"]}, "federation.round: unknown setting; did you mean federation.rounds?"),
    ],
)
def test_what_a_resumed_run_cannot_take(tmp_path, capsys, given, message):
    assert launch(tmp_path, **{"env": None, "set": [], "resume_from": a_run(tmp_path)} | given) == 2
    assert message in capsys.readouterr().err


def test_only_a_runs_folder_can_be_resumed(tmp_path, capsys):
    for content in (None, "{}", "[]", '{"job": {}, "sites": {}}', "not JSON", "[" * 10**5, "7" * 10**5):
        if content is not None:
            (tmp_path / "run.json").write_text(content)
        assert launch(tmp_path, env=None, resume_from=tmp_path) == 2
        said = capsys.readouterr().err
        expected = "holds no run.json; expected that of a run" if content is None else "run.json: does not say what ran"
        assert expected in said
        assert len(said) < 1500


def test_a_copied_run_is_not_resumed_in_the_originals_files(tmp_path, capsys):
    a_run(tmp_path)
    values = json.loads((tmp_path / "run.json").read_text())
    site = SiteConfig(model="tiny", model_path="m", private_problems="p", public_problems="q", test_problems="t",
                      deepspeed_config="d", state_dir=tmp_path / "original" / "sites" / "site-1")  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(values | {"sites": {"site-1": site.model_dump(mode="json")}}))
    assert launch(tmp_path, env=None, set=[], resume_from=tmp_path) == 2
    said = f"--resume-from {tmp_path}: the run was made as {tmp_path / 'original'}, where its sites' files are"
    assert said in capsys.readouterr().err


def test_a_run_that_another_command_uses_is_not_changed(tmp_path, capsys):
    before = (a_run(tmp_path) / "run.json").read_bytes()
    with claim(tmp_path):
        assert launch(tmp_path, env=None, set=["federation.rounds=5"], resume_from=tmp_path) == 2
    assert "another command uses this folder; wait for its end, or end it" in capsys.readouterr().err
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_new_run_that_is_interrupted_before_it_starts_leaves_no_folder_and_a_resumed_one_its_own(
    tmp_path, capsys, monkeypatch
):
    def interrupted(prepared, say):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "start_here", interrupted)
    assert launch(tmp_path) == 130
    assert capsys.readouterr().err == "error: interrupted before the run began\n"
    assert [path.name for path in (tmp_path / "workspace").iterdir()] == ["models"]
    folder = a_run(tmp_path / "workspace")
    assert launch(tmp_path, env=None, set=[], resume_from=folder) == 130
    assert (folder / "run.json").exists()


def test_a_typo_is_reported_before_anything_large_is_imported():
    code = (
        "import sys; from pathlib import Path; from fedrlvr.launch.job import arguments\n"
        "sys.argv = ['job.py', '--sead', '3']\n"
        "try: arguments('', Path('x'))\n"
        "finally: print([name for name in ('torch', 'nvflare', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "[]\n"
    assert "unrecognized arguments: --sead 3" in done.stderr


def test_a_bad_setting_is_reported_before_anything_large_is_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fedrlvr.launch.job import arguments, run\n"
        f"sys.argv = ['job.py', '--workspace', {str(tmp_path)!r}, '--set', 'grpo.epsilon=high']\n"
        f"code = run(arguments('', Path({str(DEMO)!r})))\n"
        "print(code, [name for name in ('torch', 'nvflare', 'transformers', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "2 []\n"), done.stderr
    assert "grpo.epsilon: Input should be a valid number" in done.stderr


class Nothing:
    """A run in which nothing happens but these events."""

    log_path = server_folder = Path("nowhere")

    def __init__(self, *events: dict):
        self.events = events

    def run(self, hear):
        for event in self.events:
            hear(event)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("environment", "lines"), [("local", 0), ("sim", 0), ("poc", 4), ("prod", 4)])
def test_deadlines_are_told_where_sites_are_elsewhere(tmp_path, capsys, environment, lines):
    prepared = load_run(a_run(tmp_path)).model_copy(update={"environment": environment})
    assert follow(Nothing(), prepared, Screen(width=200)) == 0
    _, *deadlines = capsys.readouterr().out.splitlines()
    assert len(deadlines) == lines
    assert any("federation.step_deadline" in line for line in deadlines) is (lines > 0)


def test_a_run_whose_report_cannot_be_made_ends_with_a_code_of_its_own(tmp_path, capsys):
    """It did not fail, and the report's own test shows that its adapter is there."""
    started = {"event": "start", "method": "pubswap", "sites": [], "rounds": 1, "segments": 1, "seed": 0}
    assert follow(Nothing(started), load_run(a_run(tmp_path)), Screen(width=200)) == 3
    assert "the report of this run is not complete: FileNotFoundError" in capsys.readouterr().err


def test_a_run_in_which_no_site_learnt_anything_ends_with_a_code_of_its_own(tmp_path, capsys, monkeypatch):
    nothing_left_out = {"_final_adapters": lambda *_: [], "shutil": SimpleNamespace(copyfile=lambda *_: None)}
    nothing_left_out["write_page"] = lambda *_, **__: None  # there is no log for it to read
    for name, value in nothing_left_out.items():
        monkeypatch.setattr(run_folder, name, value)
    silent = {"event": "step", "kind": "private", "site": "north", "round": 0, "segment": 0, "optimizer_steps": 0.0}
    silent |= {"reward": 0.0, "live_groups": 0.0, "groups": 4.0}
    started = {"event": "start", "method": "pubswap", "sites": ["north"], "rounds": 1, "segments": 1, "seed": 0}
    prepared = load_run(a_run(tmp_path))
    assert follow(Nothing(started, silent), prepared, Screen(width=200)) == 4
    said = capsys.readouterr().err
    assert "no site has learnt anything" in said
    assert f"(here: {prepared.folder}/sites/*/completions.jsonl)" in said
    dry_run = prepared.model_copy(update={"dry_run": True})
    assert follow(Nothing(started, silent), dry_run, Screen(width=200)) == 0
    assert capsys.readouterr().err == ""
    taught = silent | {"optimizer_steps": 1.0, "live_groups": 1.0}
    assert follow(Nothing(started, silent, taught), prepared, Screen(width=200)) == 0


def test_an_event_log_that_cannot_be_read_is_a_failed_run(tmp_path, capsys):
    run = Nothing()

    def refuse(hear):
        raise Refused("metrics.jsonl, line 7: not an event")

    run.run = refuse
    assert follow(run, load_run(a_run(tmp_path)), Screen(width=200)) == 1
    assert "the run did not finish: metrics.jsonl, line 7: not an event\n" in capsys.readouterr().err


def test_a_run_is_found_again_as_it_was_with_what_may_change_changed(tmp_path):
    prepared = load_run(a_run(tmp_path))
    assert prepared.folder == tmp_path
    assert (prepared.spec.public_ids, prepared.spec.public_sha256, prepared.environment) == (("p1",), "hash", "sim")
    changed = load_run(tmp_path, ["federation.min_sites=2", "federation.rounds=5", "evaluation.samples=2"])
    assert (changed.spec.run, changed.spec.job.federation.rounds, changed.spec.job.federation.min_sites) == (
        prepared.spec.run,
        5,
        2,
    )
