"""The pages: every link, hop, path, command, flag, setting and example that they name must be there."""

import argparse
import ast
import json
import re
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.cli import COMMANDS
from fedrlvr.comparison import command as comparison
from fedrlvr.comparison.plan import Plan
from fedrlvr.data.problems import check_gold, parse_problem
from fedrlvr.flare.site.adapter_filter import AdapterFilter
from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.launch.job import arguments
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.settings_file import known_keys, load_settings
from fedrlvr.shipped import POLICIES
from fedrlvr.site_config import SiteConfig, WorkerSettings
from fedrlvr.tasks import task_named

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "custom" / "fedrlvr"
FOLDERS = ("app_configs", "custom", "jobs", "poc", "tests")
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")))
}
FRONT, SETTINGS = "README.md", "app_configs/SETTINGS.md"
OTHER_PROGRAMS = (
    "pytest ",
    "hf ",
    "pip ",
    "pip-compile ",
    "cyclonedx-py ",
    "nvflare ",
    "tensorboard ",
    "mlflow ",
    "wandb ",
    "torchrun ",
    "export ",
    "vllm serve ",
)
VERSION = re.search(r"^version = (\S+)", (ROOT / "setup.cfg").read_text(), re.MULTILINE)[1]


def fenced(text: str, language: str = "") -> list[str]:
    """The code blocks in one language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for found, block in blocks if found == language]


def prose(text: str) -> str:
    """Without code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def codes(text: str) -> list[str]:
    """Everything that stands as code, except blocks in a language, each on one line."""
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]
    return inline + [line for block in fenced(text) for line in block.splitlines() if line.strip()]


def named(pattern: str) -> list[tuple[str, str]]:
    """(page, what the pattern finds in its text), each once."""
    return sorted({(page, found) for page, text in PAGES.items() for found in re.findall(pattern, text)})


def commands(*beginnings: str) -> list[tuple[str, str]]:
    """(page, command) of every command that begins so."""
    found = set()
    for page, text in PAGES.items():
        parts = [part.strip() for code in codes(text) for part in re.split(r"&&|\|", code)]
        found |= {(page, part) for part in parts if part.startswith(beginnings)}
    return sorted(found)


def anchors(text: str) -> set[str]:
    """What a heading is called in a link, as on GitHub."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {SETTINGS}))
def test_a_page_can_be_read_at_one_sitting(page):
    assert len(PAGES[page].splitlines()) <= (180 if page == FRONT else 250)


@pytest.mark.parametrize(("page", "link"), named(r"\]\((?!https?:)([^)]+)\)"))
def test_a_link_leads_somewhere(page, link):
    file, _, anchor = link.partition("#")
    target = ((ROOT / page).parent / file).resolve() if file else ROOT / page
    assert target.exists()
    if anchor:
        assert anchor in anchors(PAGES[target.relative_to(ROOT).as_posix()])


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {FRONT}))
def test_a_page_can_be_reached_from_the_front_page(page):
    seen, new = set(), {FRONT}
    while new:
        seen |= new
        links = {((ROOT / p).parent / file).resolve() for p in new for file in re.findall(r"\]\(([^)#]+)", PAGES[p])}
        new = {p for p in PAGES if ROOT / p in links} - seen
    assert page in seen


@pytest.mark.parametrize(("page", "hop"), named(r"`([\w/]+\.py::\w+)`"))
def test_a_hop_of_a_map_exists(page, hop):
    file, name = hop.split("::")
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_both_journeys_are_on_the_map():
    maps = PAGES["custom/README.md"]
    assert len(re.findall(r"`[\w/]+\.py::\w+`", maps)) >= 25
    assert {"follow-one-adapter", "follow-one-completion"} <= anchors(maps)


def test_every_room_is_on_the_map():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(re.findall(r"^\| `(\w+)/` \|", PAGES["custom/README.md"], re.MULTILINE)) == rooms
    (order,) = (block for block in fenced(PAGES["custom/README.md"]) if block.startswith("base <-"))
    assert set(re.findall(r"\w+", order)) == rooms - {"app_configs", "config", "templates"} | {"base"}


@pytest.mark.parametrize(("page", "path"), named(rf"(?<![\w/])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)"))
def test_a_path_from_the_root_exists(page, path):
    assert (ROOT / path).exists()


def modules_named() -> list[tuple[str, str]]:
    found = {(page, code) for page, text in PAGES.items() for code in codes(text) if re.fullmatch(r"[\w/]+\.py", code)}
    return sorted(found)


@pytest.mark.parametrize(("page", "module"), modules_named())
def test_a_module_exists(page, module):
    anywhere = (found for folder in FOLDERS for found in (ROOT / folder).rglob(module))
    assert (ROOT / module).is_file() or (PACKAGE / module).is_file() or ("/" not in module and any(anywhere))


def test_both_commands_use_what_is_there():
    both = re.findall(r"^python3 -m venv .*$", PAGES[FRONT], re.MULTILINE)
    assert len(both) == 2
    for path in ("app_configs/constraints.txt", "jobs/demo/job.py"):
        assert path in both[0]
        assert (ROOT / path).is_file()
    tested = re.search(r"pip install (.*) && pytest[^&]*$", both[1])[1]
    assert tested in (ROOT / ".ci" / "run").read_text()


def every_action(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    actions = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            actions += [deeper for part in action.choices.values() for deeper in every_action(part)]
    return actions


@pytest.mark.parametrize(("page", "command"), commands("fedrlvr "))
def test_a_command_of_ours_is_one(page, command):
    _, name, *words = shlex.split(command)
    parser = argparse.ArgumentParser()
    import_module(f"fedrlvr.commands.{name}").add_arguments(parser)
    actions = every_action(parser)
    flags = {flag: action for action in actions for flag in action.option_strings}
    deeper = [action.choices for action in actions if isinstance(action, argparse._SubParsersAction)]
    assert not (deeper and words) or words[0] in deeper[0]
    for flag, value in pairwise([*words, ""]):
        if flag.startswith("--"):
            assert flag in flags
            assert not flags[flag].choices or value in flags[flag].choices


def test_every_command_is_on_some_page():
    assert {command.split()[1] for _, command in commands("fedrlvr ")} == set(COMMANDS)


@pytest.mark.parametrize(
    ("page", "command"), commands("python jobs/demo/job.py", "python jobs/math/job.py", "python jobs/medical/job.py")
)
def test_the_command_of_a_job_is_one(page, command, monkeypatch):
    _, script, *words = shlex.split(command)
    assert (ROOT / script).is_file()
    monkeypatch.setattr(sys, "argv", [script, *words])
    given = arguments("", Path("app_configs/demo.yaml"))
    assert (ROOT / given.config).is_file()


@pytest.mark.parametrize(("page", "command"), commands("python jobs/compare/job.py"))
def test_the_command_of_the_comparison_is_one(page, command, monkeypatch):
    _, script, *words = shlex.split(command, comments=True)
    plan = load_settings(Plan, (ROOT / script).with_name("plan.yaml"))
    monkeypatch.setattr(sys, "argv", [script, *words])
    assert set(comparison.arguments("", Path("plan.yaml")).studies or []) <= set(plan.studies)


@pytest.mark.parametrize(("page", "command"), commands("python poc/", "python tests/", "python jobs/demo/compare.py"))
def test_the_command_of_a_script_is_one(page, command):
    _, script, *words = shlex.split(command)
    source = (ROOT / script).read_text()
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in source
    if script == "poc/run.py":
        assert f'"{words[0]}"' in source


def flares_own_flags() -> set[str]:
    """What FLARE takes from the command line of every script with a recipe."""
    found = set(re.findall(r'"(--[a-z][a-z-]*)"', Path(find_spec("nvflare.recipe.spec").origin).read_text()))
    assert found == {"--export", "--export-dir"}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_is_known(page):
    scripts = [path for folder in ("poc", "tests/benchmarks") for path in (ROOT / folder).glob("*.py")]
    rooms = ("launch", "comparison", "commands")
    sources = [*(path for room in rooms for path in (PACKAGE / room).glob("*.py")), *scripts]
    known = set(re.findall(r'"(--[a-z][a-z-]*)"', "".join(path.read_text() for path in sources)))
    known |= {"--help", *flares_own_flags()}
    assert {"--method", "--tiny", "--data", "--samples", "--site-config"} <= known
    ours = [code for code in codes(PAGES[page]) if not code.startswith(OTHER_PROGRAMS) and " -m venv " not in code]
    assert {flag for code in ours for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)} <= known


def settings_named() -> list[tuple[str, str]]:
    """Whatever follows `--set`, and dotted names of which the first is a group of settings."""
    groups = {key for model in (ExperimentConfig, SitePolicy) for key in known_keys(model) if "." not in key}
    found = set(named(r"--set ([a-z_.]+)="))
    for page in PAGES.keys() - {SETTINGS}:  # which is generated
        for code in codes(PAGES[page]):
            match = re.match(r"([a-z_]+)(\.[a-z_]+)+(?=$|[:=])", code)
            if match and match[1] in groups and not re.search(r"\.(json|yaml|jsonl)$", match[0]):
                found.add((page, match[0]))
    return sorted(found)


@pytest.mark.parametrize(("page", "key"), settings_named())
def test_a_setting_is_one(page, key):
    assert key in {*known_keys(ExperimentConfig), *known_keys(SitePolicy)}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("jobs/README.md", METHODS),
        ("app_configs/site/README.md", POLICIES),
        ("app_configs/README.md", [path.name for path in (ROOT / "app_configs").glob("*.yaml")]),
        ("app_configs/README.md", [f"deepspeed/{path.name}" for path in (ROOT / "app_configs/deepspeed").iterdir()]),
    ],
)
def test_a_page_leaves_none_out(page, names):
    assert len(names) > 1
    assert {f"`{name}`" for name in names} <= set(re.findall(r"`[^`\n]+`", PAGES[page]))


def test_the_problem_lines_are_problems():
    (block,) = fenced(PAGES["jobs/PROBLEMS.md"], "json")
    problems = [parse_problem(json.loads(line), "page") for line in block.splitlines()]
    assert [problem.task for problem in problems] == ["math", "choice"]
    for problem in problems:
        check_gold(problem, task_named(problem.task), "page")


def test_the_filter_is_one_that_flare_can_build():
    (block,) = fenced(PAGES["app_configs/site/README.md"], "json")
    (scope,) = json.loads(block)["scopes"]
    (coming,), (going,) = scope["task_data_filters"], scope["task_result_filters"]
    assert coming["args"] == going["args"]
    assert (coming["direction"], going["direction"]) == ("in", "out")
    assert coming["path"] == going["path"] == f"{AdapterFilter.__module__}.{AdapterFilter.__name__}"
    assert AdapterFilter(**coming["args"]).max_epsilon == 8.0


def test_the_sites_file_is_one():
    (block,) = fenced(PAGES["app_configs/site/README.md"], "yaml")
    assert SiteConfig.model_validate(yaml.safe_load(block)).policy == Path("policy.yaml")


def test_every_way_to_launch_a_worker_is_one():
    (block,) = fenced(PAGES["poc/README.md"], "yaml")
    ways = re.findall(r"launch: (.*?)(?:  +#.*)?$", block, re.MULTILINE)
    assert [way.split()[0] for way in ways] == ["torchrun", "deepspeed", "srun"]
    for way in ways:
        assert WorkerSettings(launch=way).command(["module"], 4, 29500)[-1] == "module"
    given = yaml.safe_load(block)
    assert WorkerSettings(**given["worker"]).launch == ways[0]
    assert given.keys() <= SiteConfig.model_fields.keys()


def test_the_lines_of_the_flare_script_are_those_of_the_one_that_runs():
    """`tests/integration/test_flare_script.py` runs it."""
    (block,) = fenced(PAGES["custom/README.md"], "python")
    script = [line.strip() for line in (ROOT / "jobs" / "flare_script" / "job.py").read_text().splitlines()]
    assert len(block.splitlines()) >= 3
    assert set(block.splitlines()) <= set(script)


@pytest.mark.parametrize(("page", "command"), commands("python jobs/flare_script/job.py"))
def test_the_command_of_the_flare_script_is_one(page, command):
    source = (ROOT / "jobs" / "flare_script" / "job.py").read_text()
    for word in shlex.split(command)[2:]:
        if word.startswith("--"):
            assert f'"{word}"' in source or word in flares_own_flags()


def test_the_counted_lines_are_about_as_many():
    """To one in a hundred, so that not every change needs another number."""
    (told,) = re.findall(r"^\| lines of Python in .* \| ([\d,]+) \|$", PAGES["custom/README.md"], re.MULTILINE)
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "custom").rglob("*.py"))
    assert int(told.replace(",", "")) == pytest.approx(lines, rel=0.01)


def test_the_version_is_the_packages():
    assert f"version = {{{VERSION}}}" in PAGES[FRONT]
    assert set(re.findall(r"fedrlvr-([\d.]+)-py3", PAGES["poc/README.md"])) == {VERSION}
