"""The README's map names every hop of an adapter and of a completion: what it names must be there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("hop", sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", README))))
def test_a_hop_of_the_map_exists(hop):
    file, name = hop.split("::")
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_both_journeys_are_on_the_map():
    assert len(re.findall(r"`[\w/]+\.py::\w+`", README)) >= 25


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_a_link_leads_somewhere(link):
    assert (ROOT / link).exists()


def test_both_commands_use_what_is_there():
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert len(commands) == 2
    for path in ("app_configs/constraints.txt", "jobs/demo/job.py"):
        assert path in commands[0]
        assert (ROOT / path).is_file()


def test_every_flag_the_readme_names_is_known():
    source = (ROOT / "custom" / "fedrlvr" / "launch.py").read_text()
    for flag in ("--method", "--seed", "--config", "--set", "--workspace", "--env", "--rebuild-model"):
        assert f'"{flag}"' in source
