"""Projects of `fedrlvr init` as they come out: installed, tested and run by the commands of their own README."""

import json
import re
from pathlib import Path

import pytest
from tests.environments import Environment

from fedrlvr.launch.new_project import KINDS, write_project

pytestmark = pytest.mark.slow


class Project:
    """A project's folder, with a Python environment of its own on top of this one."""

    def __init__(self, home: Path, kind: str):
        self.folder, self._environment = home / "my_project", Environment(home / "environment")
        write_project(self.folder, kind)

    def commands(self) -> list[str]:
        """Those of the first block in its README."""
        block = re.search(r"^```\n(.*?)^```$", (self.folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
        return block[1].splitlines()

    def run(self, command: str, code: int = 0) -> str:
        """What a command says in the project's folder and environment."""
        return self._environment.run(command, self.folder, (code,))

    def runs(self) -> list[dict]:
        """The summaries of its runs, in their order."""
        found = sorted(self.folder.glob("workspace/*/summary.json"), key=lambda path: path.stat().st_mtime)
        return [json.loads(path.read_text()) for path in found]


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_of_its_readme_work_as_they_are(tmp_path, kind):
    project = Project(tmp_path, kind)
    said = {command: project.run(command) for command in project.commands()}
    assert (len(said) == 5) is (kind == "own")
    assert re.search(r"\d+ passed", said["python -m pytest -q"])
    assert "failed" not in said["python -m pytest -q"]
    assert {path.name for path in (project.folder / "data").glob("*.jsonl")} >= {"public.jsonl", "site-2.jsonl"}
    summaries = project.runs()
    assert len(summaries) == len([command for command in said if "job.py" in command])
    for summary in summaries:
        assert summary["finished"]
        assert summary["sites"] == ["site-1", "site-2"]
    if kind == "own":
        before, after = (summaries[-1][name]["test"]["overall"]["pass@1"] for name in ("base", "final"))
        assert after > before + 0.1


def test_the_doctor_and_a_simulated_run_know_an_own_task(tmp_path):
    project = Project(tmp_path, "own")
    assert "no task is called 'my_project'" in project.run("python job.py --tiny --env local", 2)
    install, _, prepare, *_ = project.commands()
    project.run(install)
    project.run(prepare)
    short = "--set federation.rounds=1 --set federation.segments_per_round=1 --set base_model.steps=2"
    said = project.run(f"python job.py --tiny {short}")  # in FLARE's simulator
    assert re.search(
        r"task my_project: of my_project 0.1.0 \(source [0-9a-f]{16}\), in .*/my_project/my_project\n", said
    )
    (summary,) = project.runs()
    assert summary["finished"]
    assert re.fullmatch(r"my_project 0.1.0 \(source [0-9a-f]{16}\)", package := summary["task_package"])
    (folder,) = project.folder.glob("workspace/my_project-*")
    assert f"| task | `my_project`, of `{package}` |" in (folder / "adapter" / "README.md").read_text()
    assert f"my_project, of {package}" in (folder / "report.html").read_text()
    (model,) = (project.folder / "workspace" / "models").iterdir()
    (project.folder / "models").mkdir()
    (project.folder / "models" / "base").symlink_to(model)
    doctor = "fedrlvr doctor --site-config site/fedrlvr.yaml --config preset.yaml --manifest data/manifest.json --tiny"
    assert doctor.removesuffix(" --tiny") in (project.folder / "README.md").read_text()
    said = project.run(f"{doctor} --set federation.rounds=1")
    assert re.search(r"ok +task +my_project of my_project 0.1.0 \(source [0-9a-f]{16}\); all sites need this", said)
    assert "this site is ready" in said
    task = project.folder / "my_project" / "task.py"
    task.write_text(task.read_text().replace("return Verdict(sum(halves) / 2", "return Verdict(sum(halves)"))
    said = project.run("python job.py --tiny --env local", 1)
    assert "error: task my_project of my_project 0.1.0" in said
    assert "verify returned the reward 2, expected one from 0 to 1, for the problem with the id" in said
    assert "Traceback" not in said
    assert re.search(r"failed +problems +task my_project of .* returned the reward 2", project.run(doctor, 1))


def test_a_run_does_not_go_on_with_another_verifier(tmp_path):
    project = Project(tmp_path, "own")
    project.run(project.commands()[0])
    short = "--set federation.rounds=1 --set federation.segments_per_round=1 --set base_model.steps=2"
    project.run(f"python job.py --tiny --env local {short}")
    task = project.folder / "my_project" / "task.py"
    task.write_text(task.read_text() + "\n# changed\n")
    (folder,) = project.folder.glob("workspace/my_project-*")
    said = project.run(f"python job.py --resume-from {folder} --set federation.rounds=2", 1)
    assert "task 'my_project' differs: the job is for my_project 0.1.0 (source" in said
    assert "this site has my_project 0.1.0 (source" in said
