"""`poc/rehearse.py`: a production federation from nothing, with the package from its wheel, and down again."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT, SMALL, processes_of
from tests.reached import reached

SCRIPT = ROOT / "poc" / "rehearse.py"


@pytest.mark.slow
def test_everything_is_as_expected_and_nothing_is_left(tmp_path, port):
    command = [sys.executable, str(SCRIPT), "--workspace", str(tmp_path / "rehearsal"), "--port", str(port)]
    enough = ["data.private_per_site=40", "grpo.prompts_per_step=16"]  # for clinical's `min_problems`
    for setting in [*SMALL, *enough]:
        if not setting.startswith("data.sites"):
            command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with reached(lambda: processes_of(tmp_path)) as ports:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ports == set()
    assert done.stdout.count("✓") == 8
    assert "✗" not in done.stdout
    for name in ("hospital-a", "hospital-b"):
        assert f"{name}: NVFLARE_ERROR: BYOC not permitted" in done.stdout
    assert processes_of(tmp_path) == []


def test_packages_are_lent_and_an_editable_install_of_this_one_is_not(tmp_path):
    """Beside an environment with a package of its own lies a folder with another, and with an editable install."""
    python, source, lent = tmp_path / "environment" / "bin" / "python", tmp_path / "source", tmp_path / "lent"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "environment"], check=True, timeout=60)
    (own,) = tmp_path.glob("environment/lib/python*/site-packages")
    for place in (own / "ours", source / "ours", source / "edited", lent / "ours", lent / "others"):
        place.mkdir(parents=True)
        (place / "__init__.py").touch()
    (lent / "__editable__.ours-1.0.pth").write_text(f"{source}\n")
    runpy.run_path(str(SCRIPT))["lend_packages"](python, [str(lent)])

    def place_of(package: str) -> Path | str:
        command = [python, "-c", f"import {package}; print({package}.__file__)"]
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60, check=False)
        return Path(done.stdout.strip()).parent if done.stdout else done.stderr.splitlines()[-1]

    assert place_of("ours") == own / "ours"
    assert place_of("others") == lent / "others"
    assert place_of("edited") == "ModuleNotFoundError: No module named 'edited'"
