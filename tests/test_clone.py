"""What somebody meets who has just cloned: too old a Python is told so, and git is not offered what commands write."""

import ast
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import sys
sys.version_info = {version}
import fedrlvr
print("went on")
"""


def ask(version: tuple) -> subprocess.CompletedProcess:
    """Import the package in an interpreter that says it is of this version."""
    command = [sys.executable, "-c", SCRIPT.format(version=version)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("version", [(2, 7, 18, "final", 0), (3, 9, 18, "final", 0), (3, 10, 13, "final", 0)])
def test_an_old_python_is_told_which_is_needed(version):
    done = ask(version)
    assert done.returncode == 1
    assert done.stderr == f"fedrlvr needs Python 3.11 or newer; this is {version[0]}.{version[1]}\n"
    assert done.stdout == ""


@pytest.mark.parametrize("version", [(3, 11, 0, "final", 0), (3, 13, 0, "final", 0), (4, 0, 0, "alpha", 0)])
def test_a_newer_python_goes_on(version):
    assert ask(version).stdout == "went on\n"


def test_the_file_that_older_pythons_read_first_has_no_newer_syntax():
    """Nor an import of ours, which would have."""
    tree = ast.parse((ROOT / "custom" / "fedrlvr" / "__init__.py").read_text(), feature_version=(3, 7))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.JoinedStr | ast.AnnAssign)]
    assert {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names} == {"sys"}


def test_pip_is_told_the_same():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options"]["python_requires"] == ">=3.11"


def test_what_commands_write_is_not_offered_to_git_and_nothing_of_ours_is_hidden():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()

    assert git("ls-files", "--cached", "--ignored", "--exclude-standard") == []
    written = [
        "data/math/site-1.jsonl",
        "models/merged/config.json",
        "kits/x",
        "evaluation/x",
        "workspace/x",
        "fl_job/x",
    ]
    assert git("check-ignore", *written) == written
    assert git("check-ignore", "custom/fedrlvr/data/new.py", "tests/data/test_new.py", "jobs/new/data/x") == []
