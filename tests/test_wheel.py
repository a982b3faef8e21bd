"""The wheel that a hospital installs: the package and the files that a site is set up with, and nothing else."""

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from fedrlvr.report.learning import NOTHING_LEARNT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ["LICENSE", "README.md", "pyproject.toml", "setup.cfg", "app_configs", "custom", "jobs", "tests"]
# Pages are for people who have the source: their links would lead nowhere in an installed package.
SHIPPED = [path for path in (ROOT / "app_configs").rglob("*") if path.is_file() and path.suffix != ".md"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: a build leaves folders in its source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "workspace")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def in_wheel(path: Path) -> str:
    return f"fedrlvr/{path.relative_to(ROOT).as_posix()}"


def test_it_holds_every_module_and_every_preset_and_site_file_and_nothing_else(wheel):
    package = ROOT / "custom" / "fedrlvr"
    modules = {path.relative_to(package.parent).as_posix() for path in package.rglob("*.py")}
    shipped = set(map(in_wheel, SHIPPED))
    assert {"demo.yaml", "zero0.json", "sealed.yaml", "constraints.txt"} <= {path.name for path in SHIPPED}
    pages = {
        path.relative_to(package.parent).as_posix() for kind in ("html", "css") for path in package.rglob(f"*.{kind}")
    }
    assert len(pages) == 5
    templates = {path.relative_to(package.parent).as_posix() for path in package.glob("templates/**/*") if path.suffix}
    assert len(templates) == 12
    assert {name for name in names(wheel) if ".dist-info/" not in name} == modules | shipped | pages | templates


def test_its_files_are_those_that_people_read(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for path in SHIPPED:
            assert archive.read(in_wheel(path)) == path.read_bytes()


def test_its_metadata_is_setup_cfgs(wheel):
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        (points,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        metadata, scripts = archive.read(about).decode(), archive.read(points).decode()
    assert f"\nVersion: {settings['metadata']['version']}\n" in metadata
    for requirement in settings["options"]["install_requires"].split("\n"):
        assert requirement.split(" ")[0] in metadata
    assert "[console_scripts]\nfedrlvr = fedrlvr.cli:main\n" in scripts
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names(wheel))


@pytest.fixture
def command(wheel, tmp_path):
    """Runs `fedrlvr`, installed into a folder of its own, in another, away from any source tree."""
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    code = "import fedrlvr, sys; print(fedrlvr.__file__); from fedrlvr.cli import main; sys.exit(main(sys.argv[1:]))"

    def run(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(installed)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode in codes, done.stderr
        assert done.stdout.splitlines()[0] == str(installed / "fedrlvr" / "__init__.py")
        return done.stdout

    return run


def test_a_site_can_be_set_up_from_it_alone(command, tmp_path):
    local = tmp_path / "local"
    local.mkdir()
    command("site", "init", str(local), "--policy", "sealed")
    assert (local / "policy.yaml").read_bytes() == (ROOT / "app_configs" / "site" / "sealed.yaml").read_bytes()
    assert "require: dp_grpo" in (local / "policy.yaml").read_text()


@pytest.mark.parametrize("task", ["math", "choice", "own"])
def test_a_project_can_be_begun_from_it_alone(command, tmp_path, task):
    command("init", "my_project", "--task", task)
    assert (tmp_path / "my_project" / "problems.jsonl").is_file()


SHORT = [f"--set={setting}" for setting in ("federation.rounds=1", "federation.segments_per_round=1", "data.public=8")]


@pytest.mark.parametrize("own", [False, True])
def test_a_preset_runs_from_it_alone_one_of_ours_or_the_users(command, tmp_path, own):
    """Without a `job.py`, in a folder that has nothing but, perhaps, the user's own preset."""
    if own:
        shutil.copy(ROOT / "app_configs" / "demo.yaml", tmp_path / "mine.yaml")
    few = [*SHORT, "--set=base_model.steps=2", "--set=base_model.batch_size=4", "--set=exchange.schedule=[0]"]
    said = command("run", "mine.yaml" if own else "demo", "--env", "local", "--seed=3", *few, codes=(0, NOTHING_LEARNT))
    (folder,) = tmp_path.glob("workspace/demo-pubswap-seed3")
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert str(folder / "adapter") in said
