"""The script for whatever GPU there is, tried at a tiny shape on the CPU, with what a GPU machine may lack hidden."""

import json
import runpy
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

SCRIPT = Path(__file__).parent / "benchmarks" / "gpu.py"
# None of it is needed by a worker.
LACKING = {"datasets", "phonenumbers", "stdnum", "presidio_analyzer", "math_verify", "latex2sympy2_extended"}
LACKING |= {"wordfreq", "confusable_homoglyphs", "matplotlib", "nvflare", "dp_accounting", "trl"}
HIDING = f"""
import runpy, sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {LACKING!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
import fedrlvr.worker.service, fedrlvr.worker.worker
sys.path.insert(0, {str(SCRIPT.parent)!r})
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


def test_it_ends_with_a_table_and_json_of_right_numbers(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-c", HIDING, "--cpu", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    lines = {line["what"]: line for line in json.loads(out.read_text())["lines"]}
    assert lines["TRL"]["skipped"] == "trl or datasets is not installed"
    for what in ("sampling, cached", "training, packed tokens"):
        assert lines[what]["value"] > 1
        assert lines[what]["share_of_matmul"] > 0
    judged = {what: line["right"] for what, line in lines.items() if "right" in line}
    assert len(judged) == 4
    assert all(judged.values())
    assert done.returncode == 0, done.stderr[-2000:]
    assert "training, packed tokens" in done.stdout


def test_nothing_is_begun_once_the_time_is_over(tmp_path, monkeypatch):
    out = tmp_path / "gpu.json"
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")  # the script sets them, and the test takes them back
    monkeypatch.syspath_prepend(SCRIPT.parent)
    arguments = Namespace(cpu=True, minutes=0.0, out=out, vllm=None, model=None, no_trl=True)
    assert runpy.run_path(str(SCRIPT))["main"](arguments) == 0
    assert [line.get("skipped") for line in json.loads(out.read_text())["lines"]] == [None, "no time left"]
