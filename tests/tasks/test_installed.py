"""Tasks of other installed packages: how they are found, what is refused, and what a fault in them is."""

import json
import os
import re
import subprocess
import sys
from types import MappingProxyType

import numpy as np
import pytest
from tests.packages import POINT, TRIAGE, install

from fedrlvr.config import PromptSettings, VerifierSettings
from fedrlvr.data.problems import ProblemFileError, read_problems
from fedrlvr.settings_file import SettingsError
from fedrlvr.task_package import TaskPackage, package_of
from fedrlvr.tasks import TASKS, check_package, known_tasks, own_package, task_named
from fedrlvr.tasks.task import GeneratedTask, Verdict, VerifierFault
from fedrlvr.types import Message, Problem

CASE = Problem("case-7", "chest pain", "urgent cardiology")
VERIFY = "        right = problem.answer.split()\n"


def with_verify(line: str) -> str:
    """The package's code, whose verifier does this first."""
    assert VERIFY in TRIAGE
    return TRIAGE.replace(VERIFY, f"        {line}\n{VERIFY}")


def test_a_task_of_an_installed_package_is_known_by_its_name(others):
    assert "triage" not in known_tasks()
    others()
    task = task_named("triage")
    assert known_tasks() == [*sorted(TASKS), "triage (of ward-tasks)"]
    assert (own_package(task).name, own_package(task).version) == ("ward-tasks", "1.2")
    assert own_package(TASKS["math"]) is None
    assert task.verify(CASE, "urgent cardiology") == Verdict(1.0, "right")
    assert task.verify(CASE, "urgent surgery") == Verdict(0.5, "half")
    assert task.verify(CASE, "") == Verdict(0.0, "wrong")


def test_it_gets_the_jobs_settings_as_ours_do(others):
    others()
    task = task_named("triage", VerifierSettings(max_answer_length=7), PromptSettings(instruction="Say it."))
    assert task.settings.max_answer_length == 7
    assert task.prompt(CASE) == "chest pain\n\nSay it."
    turns = (Message("user", "chest pain?"),)
    assert task.prompt(Problem("x", "", "a b", messages=turns)) == turns


def test_a_task_that_makes_its_own_problems_is_one_of_that_kind(others):
    others()
    assert not isinstance(task_named("triage"), GeneratedTask)
    others(
        TRIAGE.replace('name = "triage"', 'name = "made"\n    labels = ("a",)\n    alphabet = "ab"')
        + "\n    def problem(self, label, random):\n        return random.no_such_draw()\n"
        + "\n    def demonstration(self, problem, random):\n        return 'b'\n",
        points="made = makes:Triage",
        name="makes",
    )
    made = task_named("made")
    assert isinstance(made, GeneratedTask)
    assert made.demonstration(CASE, np.random.default_rng(0)) == "b"
    with pytest.raises(VerifierFault, match=r"problem raised AttributeError \(makes.py, line \d+\), for the label 'a'"):
        made.problem("a", np.random.default_rng(0))


def test_its_source_is_the_same_for_the_same_files_and_no_code_of_it_runs_for_that(others, tmp_path):
    folder = others("raise SystemExit('imported')")
    first = package_of("triage")
    assert re.fullmatch("[0-9a-f]{16}", first.source)
    (folder / "ward_tasks.py").write_text(TRIAGE)
    package_of.cache_clear()
    changed = package_of("triage")
    assert changed.source != first.source
    again = others()  # elsewhere on this machine
    assert again != folder
    assert package_of("triage") == changed


def test_all_python_files_of_a_package_count_but_no_others(others):
    folder = others("", points="triage = ward_tasks.tasks.triage:Triage")
    (folder / "ward_tasks.py").unlink()
    (folder / "ward_tasks" / "tasks").mkdir(parents=True)
    for path, text in {"__init__.py": "", "tasks/__init__.py": "", "tasks/triage.py": TRIAGE, "words.py": ""}.items():
        (folder / "ward_tasks" / path).write_text(text)
    assert task_named("triage").verify(CASE, "urgent cardiology").reward == 1.0
    before = package_of("triage")
    for name, same in (("notes.txt", True), ("words.py", False)):
        (folder / "ward_tasks" / name).write_text("# changed")
        package_of.cache_clear()
        assert (package_of("triage") == before) is same


@pytest.mark.parametrize(
    ("code", "points", "said"),
    [
        ("import no_such_module", POINT, "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", POINT, "cannot be imported: SystemExit: 3"),
        ("x = 1 / 0", POINT, "cannot be imported: ZeroDivisionError: division by zero"),
        ("Triage = (", POINT, "cannot be imported: SyntaxError"),
        (TRIAGE, "triage = ward_tasks:Nobody", "cannot be imported: AttributeError: .* has no attribute 'Nobody'"),
        (TRIAGE, "triage = elsewhere:Triage", "cannot be imported: ModuleNotFoundError: No module named 'elsewhere'"),
        ("Triage = 3", POINT, "is no task; expected a class that inherits from fedrlvr.tasks.task.Task"),
        (TRIAGE + "\nTASK = Triage()", "triage = ward_tasks:TASK", "is no task; expected a class that inherits"),
        (TRIAGE.replace('"triage"', '"other"'), POINT, "has the name 'other'; expected 'triage', as the entry point"),
        (TRIAGE.replace("gold_completion", "gold"), POINT, "has no gold_completion, which a task needs"),
    ],
)
def test_a_package_that_cannot_be_used_is_named_with_its_entry_point_and_the_reason(others, code, points, said):
    others(code, points=points)
    where = rf"task: package ward-tasks 1.2 \(entry point `{re.escape(points)}`\) {said}"
    with pytest.raises(SettingsError, match=where):
        task_named("triage")
    assert task_named("math") is TASKS["math"]  # others do not break


def test_a_class_that_takes_no_settings_is_told(others):
    others(TRIAGE + "\n    def __init__(self):\n        pass\n")
    with pytest.raises(
        SettingsError, match=r"triage of ward-tasks 1.2 .* cannot be made: TypeError: .* whose __init__"
    ):
        task_named("triage")


def test_nobody_takes_over_a_name_of_ours(others):
    others(TRIAGE.replace('"triage"', '"math"'), points="math = ward_tasks:Triage")
    with pytest.raises(SettingsError, match=r"'math' is one of ours, and package ward-tasks 1.2 .* offers it as well"):
        task_named("math")
    assert task_named("choice") is TASKS["choice"]
    assert known_tasks() == sorted(TASKS)


def test_two_packages_that_offer_the_same_task_are_both_named(others):
    others()
    others(name="more-tasks", version="0.1", points="triage = more_tasks:Triage")
    with pytest.raises(
        SettingsError, match=r"'triage' is offered by package more-tasks 0.1 .* and by .* ward-tasks 1.2"
    ):
        task_named("triage")


def test_a_task_that_nobody_offers_is_told_with_those_that_are_known(others):
    others()
    known = r"known: arithmetic, .*, triage \(of ward-tasks\); "
    for name, remedy in (("triag", r"did you mean triage\?"), ("my_own", "if another package offers it, install that")):
        with pytest.raises(SettingsError, match=f"no task is called '{name}'; {known}{remedy}"):
            task_named(name)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise ValueError(completion)", r"verify raised ValueError \(ward_tasks.py, line 10\)"),
        ("return Verdict(1.5, 'x')", "verify returned the reward 1.5, expected one from 0 to 1"),
        ("return Verdict(-0.1, 'x')", "verify returned the reward -0.1, expected one from 0 to 1"),
        ("return Verdict(float('nan'), 'x')", "verify returned the reward nan, expected one from 0 to 1"),
        ("return Verdict('1.0', 'x')", "verify returned str, expected a number from 0 to 1, as the reward"),
        ("return Verdict(None, 'x')", "verify returned NoneType, expected a number from 0 to 1, as the reward"),
        ("return Verdict(1.0, None)", "verify returned NoneType, expected a text, as the reason"),
        ("return Verdict(1.0, completion * 99)", "verify returned a reason of more than 200 characters"),
        ("return 1.0", "verify returned float, expected a Verdict"),
        ("return None", "verify returned NoneType, expected a Verdict"),
    ],
)
def test_a_fault_of_the_verifier_is_no_reward_and_quotes_nothing(others, line, said):
    others(with_verify(line))
    with pytest.raises(
        VerifierFault, match=rf"task triage of ward-tasks 1.2 \(source .*\): {said}.*'case-7'"
    ) as caught:
        task_named("triage").verify(CASE, "secret words")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("reward", ["True", "1", "__import__('numpy').float32(1)"])
def test_whatever_is_a_number_is_a_reward(others, reward):
    others(with_verify(f"return Verdict({reward}, 'x')"))
    verdict = task_named("triage").verify(CASE, "")
    assert verdict == Verdict(1.0, "x")
    assert type(verdict.reward) is float


@pytest.mark.parametrize(
    ("code", "raised", "said"),
    [
        (with_verify("raise KeyError('gold')"), VerifierFault, "verify raised KeyError .*'case-7'"),
        (
            with_verify("return Verdict(0.5, 'x')"),
            ProblemFileError,
            "line 1, field answer: the gold does not score 1.0",
        ),
        (TRIAGE.replace("return problem.answer", "return None"), VerifierFault, "gold_completion returned NoneType"),
        (
            TRIAGE.replace("return problem.answer", "raise NotOfThisTask('answer', 'expected two words')").replace(
                "import Task", "import NotOfThisTask, Task"
            ),
            ProblemFileError,
            "line 1, field answer: not a triage problem: expected two words",
        ),
    ],
)
def test_every_gold_is_verified_when_problems_are_read(others, tmp_path, code, raised, said):
    others(code)
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "case-7", "prompt": "chest pain", "answer": "urgent cardiology"}))
    with pytest.raises(raised, match=said):
        read_problems(path, task_named("triage"))


ANOTHER = MappingProxyType({"name": "ward-tasks", "version": "1.3", "source": "0" * 16})


def test_a_job_and_a_site_compare_packages(others):
    job = TaskPackage(**ANOTHER)
    said = "task 'triage' differs: the job is for ward-tasks 1.3 (source 0000000000000000), "
    assert check_package("triage", job).startswith(said + "this site has no package that offers it")
    others()
    here = package_of("triage")
    assert check_package("triage", here) == ""
    assert check_package("triage", job).startswith(f"{said}this site has ward-tasks 1.2 (source {here.source})")
    assert check_package("triage", here.model_copy(update={"source": "0" * 16}))
    assert check_package("triage", None).startswith(
        "task 'triage' differs: the job names no package, this site has ward"
    )
    assert check_package("math", None) == ""
    assert "one of fedrlvr's own" in check_package("math", job)


def said_by(folder, *arguments: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "fedrlvr.cli", *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", ["score", "prepare", "egress"])
def test_help_imports_no_code_of_others(tmp_path, name):
    folder = install(tmp_path, "print('imported')\nraise SystemExit(9)")
    done = said_by(folder, name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "imported" not in done.stdout


def test_commands_end_with_one_message(tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps({"answer": "urgent cardiology", "completion": "urgent surgery"}))
    score = ("score", "--input", str(lines), "--task", "triage")
    done = said_by(install(tmp_path / "good"), *score)
    assert (done.returncode, json.loads(done.stdout)["reward"]) == (0, 0.5)
    for code, ends in (("import no_such_module", 2), (with_verify("raise OSError"), 1)):
        done = said_by(install(tmp_path / f"bad-{ends}", code), *score)
        assert (done.returncode, done.stderr.count("\n")) == (ends, 1)
        assert "ward-tasks 1.2" in done.stderr


def test_prepare_verifies_every_gold_and_writes_nothing_where_that_fails(tmp_path):
    problems = tmp_path / "problems.jsonl"
    cases = [
        {"id": f"case-{n}", "prompt": f"pain number {n}", "answer": "urgent surgery", "task": "triage"}
        for n in range(6)
    ]
    problems.write_text("".join(json.dumps(case) + "\n" for case in cases))
    out = tmp_path / "out"
    words = (
        "prepare",
        "--dataset=jsonl",
        f"--source={problems}",
        "--sites=1",
        "--public=1",
        "--test=1",
        f"--out={out}",
    )
    done = said_by(install(tmp_path / "bad", with_verify("assert problem.id != 'case-4'")), *words)
    assert (done.returncode, done.stderr.count("\n"), out.exists()) == (1, 1, False)
    assert "verify raised AssertionError (ward_tasks.py, line 10), for the problem with the id 'case-4'" in done.stderr
    done = said_by(install(tmp_path / "good"), *words)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "manifest.json").read_text())["versions"]["task"].startswith("ward-tasks 1.2 (source ")
