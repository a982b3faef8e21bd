"""The README's map names every hop of an adapter and of a completion: what it names must be there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from fedrlvr.cli import COMMANDS
from fedrlvr.data.problems import check_gold, parse_problem
from fedrlvr.flare.site.adapter_filter import AdapterFilter
from fedrlvr.tasks import task_named

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


def test_every_flag_the_readmes_name_is_known():
    package = ROOT / "custom" / "fedrlvr"
    scripts = [path for folder in ("poc", "tests/benchmarks") for path in (ROOT / folder).glob("*.py")]
    sources = [package / "launch" / "job.py", *(package / "commands").glob("*.py"), *scripts]
    known = set(re.findall(r'"(--[a-z-]+)"', "".join(path.read_text() for path in sources)))
    for readme in (ROOT / "README.md", *(ROOT / "jobs").glob("*/README.md")):
        text = re.sub(r"hf download .*?`|`pip[^`]*`|launch: .*", "", readme.read_text())  # other programs'
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= known, readme
    assert {"--method", "--tiny", "--data", "--samples", "--site-config"} <= known


def test_every_command_the_readme_names_is_there():
    assert set(re.findall(r"`fedrlvr (\w+)", README)) == set(COMMANDS)


def test_the_problem_lines_in_the_readme_are_problems():
    lines = re.search(r"```json\n(.*?)```", README, re.DOTALL)[1].splitlines()
    problems = [parse_problem(json.loads(line), "README") for line in lines]
    assert [problem.task for problem in problems] == ["math", "choice"]
    for problem in problems:
        check_gold(problem, task_named(problem.task), "README")


def test_the_filter_in_the_readme_is_one_that_flare_can_build():
    blocks = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    (scope,) = json.loads(blocks[-1])["scopes"]
    (coming,), (going,) = scope["task_data_filters"], scope["task_result_filters"]
    assert coming["args"] == going["args"]
    assert (coming["direction"], going["direction"]) == ("in", "out")
    assert coming["path"] == going["path"] == f"{AdapterFilter.__module__}.{AdapterFilter.__name__}"
    assert AdapterFilter(**coming["args"]).max_epsilon == 8.0
