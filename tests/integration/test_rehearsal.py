"""`poc/rehearse.py`: a production federation from nothing, with the package from its wheel, and down again."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

spec = importlib.util.spec_from_file_location("demo_conftest", Path(__file__).with_name("conftest.py"))
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo)
ROOT, SMALL, processes_of = demo.ROOT, demo.SMALL, demo.processes_of


def test_everything_is_as_expected_and_nothing_is_left(tmp_path):
    command = [sys.executable, str(ROOT / "poc" / "rehearse.py"), "--workspace", str(tmp_path / "rehearsal")]
    for setting in SMALL:
        if not setting.startswith("data.sites"):
            command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 7
    assert "✗" not in done.stdout
    for name in ("hospital-a", "hospital-b"):
        assert f"{name}: NVFLARE_ERROR: BYOC not permitted" in done.stdout
    assert processes_of(tmp_path) == []
