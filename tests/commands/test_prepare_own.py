"""`fedrlvr prepare` with files of one's own: the task of the shared sets, and tables by the names of their columns."""

from pathlib import Path

import pytest
from tests.commands.preparing import own_problems, prepare, refusal, save_math

from fedrlvr.cli import main
from fedrlvr.data.manifest import read_manifest
from fedrlvr.data.problems import read_problems
from fedrlvr.tasks import task_named


def own_table(path: Path, count: int = 24) -> Path:
    lines = [f"ward question {n}?,{n},{'AB'[n % 2]}\n" for n in range(count)]
    path.write_text("".join(["frage,loesung,fach\n", *lines]))
    return path


COLUMNS = ("--columns", "question=frage,answer=loesung,label=fach")


def test_a_table_of_ones_own_becomes_the_files_of_a_federation(tmp_path, capsys):
    own, out = own_table(tmp_path / "own.csv"), tmp_path / "out"
    how = ("--sites", "2", "--partition", "label", "--task", "math", *COLUMNS)
    assert prepare(own, out, *how, dataset="table") == 0
    manifest = read_manifest(out)
    assert (manifest.dataset, manifest.source, manifest.task) == ("table", "own.csv", "math")
    assert sum(manifest.counts.values()) == 24
    for site in ("site-1", "site-2"):
        problems = read_problems(out / f"{site}.jsonl", task_named("math"))
        assert len({problem.label for problem in problems}) == 1
        assert all(problem.prompt == f"ward question {problem.answer}?" for problem in problems)
    assert "test: taken from train" in capsys.readouterr().out


def test_a_row_of_a_table_that_cannot_be_used_is_named_by_its_line(tmp_path, capsys):
    own = own_table(tmp_path / "own.csv")
    own.write_text(own.read_text().replace("question 3?,3,", "question 3?,see figure,"))
    how = ("--sites", "2", "--task", "math", *COLUMNS)
    said = refusal(capsys, own, tmp_path / "out", *how, dataset="table")
    assert "rows that cannot be used: 1\n" in said
    assert "(own.csv, line 5)" in said
    assert "see figure" not in said


def test_the_shared_sets_say_the_task_where_the_own_files_do_not(tmp_path, capsys):
    prepare(save_math(tmp_path / "math"), tmp_path / "agreed", "--sites", "2")
    shared = ("--sites", "1", "--shared", str(tmp_path / "agreed"))
    own = own_problems(tmp_path / "own.jsonl")
    assert prepare(own, tmp_path / "lines", *shared, dataset="jsonl", sizes=False) == 0
    assert len(read_problems(tmp_path / "lines" / "site-1.jsonl", task_named("math"))) == 20
    table = own_table(tmp_path / "own.csv")
    assert prepare(table, tmp_path / "table", *shared, *COLUMNS, dataset="table", sizes=False) == 0
    problems = read_problems(tmp_path / "table" / "site-1.jsonl", task_named("math"))
    assert {problem.task for problem in problems} == {"math"}
    said = refusal(capsys, own, tmp_path / "other", *shared, "--task", "arithmetic", dataset="jsonl", sizes=False)
    assert "its sets are for task math, these problems for arithmetic" in said


@pytest.mark.parametrize(
    ("dataset", "more", "said"),
    [
        ("table", (), "--columns: say what is where: question=NAME,answer=NAME, and if there are any choices=NAME"),
        ("table", (), "own.csv has fach, frage, loesung"),
        ("table", COLUMNS, "--task: a table names no task; say which: "),
        ("table", ("--task", "math", "--columns", "question=q,answer=loesung"), "own.csv: no column q; found fach, fr"),
        ("table", ("--task", "maths", *COLUMNS), "no task is called 'maths'"),
        ("table", ("--task", "math", "--first-option", "1", *COLUMNS), "--first-option: table has no numbers of opt"),
        ("math", COLUMNS, "--columns: is for --dataset table; math has columns of known names"),
        ("jsonl", (), "own.csv: is no problem file, but perhaps a table: --dataset table --columns"),
    ],
)
def test_a_table_that_is_not_explained_is_refused(tmp_path, capsys, dataset, more, said):
    own = own_table(tmp_path / "own.csv")
    assert said in refusal(capsys, own, tmp_path / "out", "--sites", "2", *more, dataset=dataset)


def test_a_table_needs_a_file(tmp_path, capsys):
    how = ["--sites", "2", "--public", "2", "--test", "2", "--out", str(tmp_path / "out")]
    assert main(["prepare", "--dataset", "table", *COLUMNS, *how]) == 2
    assert "--source: --dataset table needs a file or a folder" in capsys.readouterr().err


def test_help_says_what_each_set_is_for(capsys):
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    said = capsys.readouterr().out
    for words in ("  public   Every site has it.", "  test     ", "  private  ", "question=NAME,answer=NAME"):
        assert words in said
