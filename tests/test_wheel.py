"""The wheel that a hospital installs: the package and the files that a site is set up with, and nothing else."""

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ["LICENSE", "README.md", "pyproject.toml", "setup.cfg", "app_configs", "custom", "jobs", "tests"]
# The README beside them is for people who have the source: its links would lead nowhere in an installed package.
TEMPLATES = [path for path in (ROOT / "app_configs" / "site").iterdir() if path.name != "README.md"]


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


def test_it_holds_every_module_and_every_template_and_nothing_else(wheel):
    package = ROOT / "custom" / "fedrlvr"
    modules = {path.relative_to(package.parent).as_posix() for path in package.rglob("*.py")}
    shipped = {f"fedrlvr/templates/{path.name}" for path in TEMPLATES}
    pages = {
        path.relative_to(package.parent).as_posix() for kind in ("html", "css") for path in package.rglob(f"*.{kind}")
    }
    assert (len(shipped), len(pages)) == (8, 5)
    assert {name for name in names(wheel) if ".dist-info/" not in name} == modules | shipped | pages


def test_its_templates_are_the_files_that_people_read(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for path in TEMPLATES:
            assert archive.read(f"fedrlvr/templates/{path.name}") == path.read_bytes()


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


def test_a_site_can_be_set_up_from_it_alone(wheel, tmp_path):
    """Installed into a folder of its own, away from any source tree."""
    installed, local = tmp_path / "installed", tmp_path / "local"
    local.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    code = "import fedrlvr, sys; print(fedrlvr.__file__); from fedrlvr.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "site", "init", str(local), "--policy", "sealed"],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.splitlines()[0] == str(installed / "fedrlvr" / "__init__.py")
    assert (local / "policy.yaml").read_bytes() == (ROOT / "app_configs" / "site" / "sealed.yaml").read_bytes()
    assert "require: dp_grpo" in (local / "policy.yaml").read_text()
