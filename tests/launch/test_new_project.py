"""What `fedrlvr init` writes, and where it writes nothing. `integration/test_new_projects.py` runs what comes out."""

import subprocess
import sys
from pathlib import Path

import pytest

from fedrlvr.data.problems import read_problems
from fedrlvr.launch.experiment import load_experiment
from fedrlvr.launch.new_project import KINDS, project_files, write_project
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import task_named

RULES = "E,F,W,I,B,UP,SIM,RUF,C4,PT"  # those of our pyproject.toml; but to a user, fedrlvr is another's package
COMMON = {"pytest.ini", "README.md", "job.py", "preset.yaml", "test_problems.py", "problems.jsonl", ".gitignore"}
KIT = ("fedrlvr.yaml", "policy.yaml", "deepspeed.json", "privacy.json", "resources.json", "authorization.json")
SITE = {f"site/{name}" for name in KIT}
OWN = {"pyproject.toml", "my_project/__init__.py", "my_project/task.py"}


@pytest.fixture(params=KINDS)
def project(request, tmp_path) -> tuple[str, Path]:
    folder = tmp_path / "my_project"
    write_project(folder, request.param)
    return request.param, folder


def test_these_files_are_there_and_no_mark_of_a_template_is_left(project):
    kind, folder = project
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == COMMON | SITE | (OWN if kind == "own" else set())
    for path in found:
        text = (folder / path).read_text()
        assert not {mark for mark in ("[[", "]]", "[%", "%]", "jinja") if mark in text}
        assert text.endswith("\n")
        assert "\n\n\n\n" not in text
    assert max(len((folder / name).read_text().splitlines()) for name in ("README.md", "job.py")) <= 60


def test_its_code_is_as_tidy_as_ours(project):
    _, folder = project
    for words in (["check", "--select", RULES], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", "--line-length=120", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout


def test_its_preset_and_its_sites_file_are_valid(project):
    kind, folder = project
    real, tiny = (load_experiment(folder / "preset.yaml", tiny=tiny) for tiny in (False, True))
    assert (real.name, real.task) == ("my_project", "my_project" if kind == "own" else kind)
    assert (real.base_model, real.data) == (None, None)
    assert tiny.base_model is not None
    assert len(tiny.data.sites) == real.federation.min_sites == tiny.federation.min_sites
    site = load_settings(SiteConfig, folder / "site" / "fedrlvr.yaml")
    assert site.model == real.model
    assert site.private_problems.resolve() == folder / "data" / "site-1.jsonl"
    assert load_settings(SitePolicy, site.policy).responses.share
    assert site.deepspeed_config.is_file()


@pytest.mark.parametrize("kind", ["math", "choice"])
def test_its_ten_problems_are_problems_of_its_task(tmp_path, kind):
    write_project(tmp_path / "my_project", kind)
    problems = read_problems(tmp_path / "my_project" / "problems.jsonl", task_named(kind))
    assert len(problems) == 10
    assert {problem.task for problem in problems} == {kind}


def test_the_name_is_in_all_places(tmp_path):
    files = project_files(Path("ward_triage"), "own")
    assert 'ward_triage = "ward_triage.task:WardTriage"' in files["pyproject.toml"]
    assert "class WardTriage(Task):" in files["ward_triage/task.py"]
    assert 'name = "ward_triage"' in files["ward_triage/task.py"]
    assert "my_project" not in "".join(files.values())


def test_no_hint_names_a_package_that_is_not_published(project):
    _, folder = project
    text = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert "pip install fedrlvr" not in text
    assert "\ndependencies" not in text


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("my-project", "math", "expected a name that Python can import"),
        ("1st", "math", "expected a name that Python can import"),
        ("my project", "math", "expected a name that Python can import"),
        ("_mine", "own", "expected a name that Python can import"),
        ("mine_", "own", "expected a name that Python can import"),
        ("prüfung", "choice", "expected a name that Python can import"),
        ("class", "own", "expected a name that Python can import"),
        ("json", "own", "would hide a module or package that is installed here"),
        ("fedrlvr", "math", "would hide a module or package that is installed here"),
        ("torch", "choice", "would hide a module or package that is installed here"),
        ("math_verify", "own", "would hide a module or package that is installed here"),
        ("protocol", "own", "is the name of one of our tasks"),
    ],
)
def test_a_name_that_cannot_be_one(tmp_path, name, kind, said):
    with pytest.raises(SettingsError, match=said):
        write_project(tmp_path / name, kind)
    assert list(tmp_path.iterdir()) == []


def test_a_task_of_an_installed_package_is_not_begun_again(others, tmp_path):
    others()
    with pytest.raises(SettingsError, match=r"'triage': is a task of package ward-tasks 1.2"):
        write_project(tmp_path / "triage", "own")
    write_project(tmp_path / "triage", "math")


@pytest.mark.parametrize("there", ["folder", "empty folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path, there):
    folder = tmp_path / "my_project"
    if "folder" in there:
        folder.mkdir()
        if there == "folder":
            (folder / "README.md").write_text("mine")
    elif there == "file":
        folder.write_text("mine")
    else:
        folder.symlink_to(tmp_path / "nowhere")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(SettingsError, match="my_project: exists already; nothing was written"):
        write_project(folder, "own")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
