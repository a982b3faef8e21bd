"""The `fedrlvr` command itself: what it lists, what it loads, and its exit codes."""

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from fedrlvr import cli
from fedrlvr.cli import main
from fedrlvr.version import PROTOCOL, source_hash

HEAVY = ("torch", "transformers", "peft", "deepspeed", "nvflare", "numpy")
SLOW = ("torch", "transformers", "peft", "deepspeed", "nvflare", "datasets", "matplotlib", "accelerate")


@pytest.fixture
def stand_in(monkeypatch):
    """A command `evaluate` of which only the end is ours: stand_in(what it raises or returns)."""

    def install(ending) -> None:
        def run(arguments: argparse.Namespace) -> int:
            if isinstance(ending, BaseException):
                raise ending
            return ending

        command = SimpleNamespace(add_arguments=lambda parser: parser.add_argument("--model"), run=run)
        monkeypatch.setattr(cli, "import_module", lambda name: command)

    return install


def test_an_argument_that_a_command_does_not_know_is_told_with_its_own_usage(capsys):
    for arguments, usage in ((["run", "demo", "--out", "x"], "usage: fedrlvr run "), (["--out", "run"], "[--version]")):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        said = capsys.readouterr().err
        assert caught.value.code == 2
        assert usage in said
        assert "error: unrecognized arguments: --out" in said


def test_help_lists_every_command_and_loads_nothing_heavy():
    """In a fresh interpreter: a person who looks around does not wait for torch."""
    code = (
        "import sys\nfrom fedrlvr.cli import main\n"
        "try:\n    main(['--help'])\n"
        f"finally:\n    print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.endswith("loaded: []\n")
    for name, description in cli.COMMANDS.items():
        (line,) = (line for line in found.stdout.splitlines() if line.split()[:1] == [name])
        assert description.split()[0] in line


@pytest.mark.parametrize("name", ["doctor", "evaluate"])
def test_a_commands_help_lists_its_flags(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert cli.COMMANDS[name] in " ".join(said.split())
    assert {"doctor": "--site-config FILE", "evaluate": "--adapter DIR"}[name] in said


@pytest.mark.parametrize("arguments", [[], ["train"], ["--no-such-flag"], ["--", "train"]])
def test_no_command_or_an_unknown_one_ends_with_code_2_and_the_known_ones(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: fedrlvr" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["evaluate"], ["evaluate", "--no-such-flag"], ["doctor", "--site-config"]])
def test_flags_that_are_missing_or_unknown_end_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert f"usage: fedrlvr {arguments[0]}" in capsys.readouterr().err


def test_a_commands_own_code_is_the_programs(stand_in):
    stand_in(1)
    assert main(["evaluate"]) == 1


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (ValueError("a bad setting"), 2, "error: a bad setting\n"),
        (FileNotFoundError("no such file: x"), 2, "error: no such file: x\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_bad_input_is_one_message_and_an_interruption_has_its_own_code(stand_in, capsys, raised, code, said):
    stand_in(raised)
    assert main(["evaluate"]) == code
    assert capsys.readouterr() == ("", said)


def test_a_mistake_of_ours_is_not_hidden(stand_in):
    stand_in(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["evaluate"])


def test_the_version_tells_what_all_participants_must_have_in_common(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fedrlvr {version('fedrlvr')}, protocol {PROTOCOL}, source {source_hash()}\n"


def test_without_arguments_the_command_lines_are_taken(stand_in, monkeypatch):
    stand_in(7)
    monkeypatch.setattr(sys, "argv", ["fedrlvr", "evaluate", "--model", "x"])
    assert main() == 7


def loaded_by(*arguments: str) -> tuple[int, str, list[str]]:
    """(exit code, stderr, which heavy libraries were loaded) of a command in a fresh interpreter."""
    code = (
        "import json, sys\nfrom fedrlvr.cli import main\n"
        f"try:\n    code = main({list(arguments)})\nexcept SystemExit as end:\n    code = end.code\n"
        f"print()\nprint(json.dumps([code, [name for name in {SLOW} if name in sys.modules]]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return *json.loads(found.stdout.splitlines()[-1]), found.stderr


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_commands_help_loads_nothing_that_takes_seconds(name):
    assert loaded_by(name, "--help") == (0, [], "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("evaluate", "the following arguments are required: --model, --problems, --out"),
        ("evaluate --model x --problems /nowhere.jsonl --out y", "--problems: no such file: /nowhere.jsonl"),
        ("evaluate --model /nowhere --problems {file} --task math --out y", "no config.json in /nowhere"),
        ("evaluate --model x --problems {file} --task math --out y --set seed=1", "name it with --config"),
        ("doctor --site-config /nowhere.yaml", "--site-config: no such file: /nowhere.yaml"),
        ("doctor --site-config {file} --config /nowhere.yaml", "--config /nowhere.yaml: no such file, and no preset"),
        ("egress show --site-config /nowhere.yaml", "--site-config: no such file: /nowhere.yaml"),
        ("egress dry-run --site-config {file} --tiny", "name it with --config"),
        ("prepare --dataset jsonl --source /nowhere --sites 1 --public 1 --test 1 --out y", "/nowhere: no such file"),
        ("merge --model x --adapter y --out {file}", "exists already; expected a new or empty directory"),
        ("merge --model /nowhere --adapter y --out {file}-merged", "no config.json in /nowhere"),
        ("chat --model /nowhere", "no config.json in /nowhere"),
        ("chat --model x --config /nowhere.yaml", "--config /nowhere.yaml: no such file, and no preset"),
        ("score --task math --input /nowhere.jsonl", "--input: no such file: /nowhere.jsonl"),
        ("init json --task own", "'json': would hide a module or package that is installed here"),
        ("site init /nowhere --server", "/nowhere: no such directory"),
    ],
)
def test_what_is_wrong_with_arguments_is_said_before_anything_slow_is_loaded(arguments, said, tmp_path):
    (tmp_path / "file").write_text("")
    code, loaded, error = loaded_by(*arguments.format(file=tmp_path / "file").split())
    assert (code, loaded) == (2, [])
    assert said in error
