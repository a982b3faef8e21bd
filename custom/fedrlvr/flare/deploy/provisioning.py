"""Startup kits for a production federation, made by `nvflare provision`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from fedrlvr.flare.deploy.project import ProjectError, fill_project


def provision(template: Path, out: Path, server: str, port: int, sites: Sequence[str]) -> Path:
    """Fill the names into `template`, make the kits under `out`, and return their folder, one a participant. What a
    participant sets itself, it does with `fedrlvr site init`, where its kit will lie.

    Raises ProjectError for names that cannot be used, a folder that has kits already, or FLARE's own refusal.
    """
    project = out / "project.yml"
    if project.exists():
        raise ProjectError(f"--out: {out} has startup kits already, which are not made twice; choose another folder")
    filled = fill_project(yaml.safe_load(template.read_text()), server, port, sites)
    out.mkdir(parents=True, exist_ok=True)
    project.write_text(yaml.safe_dump(filled, sort_keys=False))
    command = [str(Path(sys.executable).parent / "nvflare"), "provision", "-p", str(project), "-w", str(out)]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    if done.returncode:
        project.unlink()
        said = (done.stderr or done.stdout)[-800:]
        raise ProjectError(f"nvflare provision ended with code {done.returncode}: {said}")
    return out / filled["name"] / "prod_00"
