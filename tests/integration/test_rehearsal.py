"""`poc/rehearse.py`: a production federation from nothing, with the package from its wheel, and down again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.integration.conftest import ROOT, SMALL, processes_of

pytestmark = pytest.mark.slow


def test_everything_is_as_expected_and_nothing_is_left(tmp_path):
    command = [sys.executable, str(ROOT / "poc" / "rehearse.py"), "--workspace", str(tmp_path / "rehearsal")]
    for setting in SMALL:
        if not setting.startswith("data.sites"):
            command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 8
    assert "✗" not in done.stdout
    for name in ("hospital-a", "hospital-b"):
        assert f"{name}: NVFLARE_ERROR: BYOC not permitted" in done.stdout
    assert processes_of(tmp_path) == []
