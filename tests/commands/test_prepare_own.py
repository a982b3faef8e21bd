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
        (
            "table",
            ("--task", "maths", *COLUMNS),
            "no task is called 'maths'; known: arithmetic, choice, ",
        ),
        ("table", ("--task", "maths", *COLUMNS), "; did you mean math?"),
        ("table", ("--task", "math", "--first-option", "1", *COLUMNS), "--first-option: table has no numbers of opt"),
        ("math", COLUMNS, "--columns: is for --dataset table; math has columns of known names"),
        ("jsonl", (), "own.csv: is no problem file, but perhaps a table: --dataset table --columns"),
    ],
)
def test_a_table_that_is_not_explained_is_refused(tmp_path, capsys, dataset, more, said):
    own = own_table(tmp_path / "own.csv")
    assert said in refusal(capsys, own, tmp_path / "out", "--sites", "2", *more, dataset=dataset)


def test_tasks_of_installed_packages_are_among_those_that_are_named(tmp_path, capsys, others):
    others()
    own = own_table(tmp_path / "own.csv")
    said = refusal(capsys, own, tmp_path / "out", "--sites", "2", *COLUMNS, dataset="table")
    assert "--task: a table names no task; say which: arithmetic, " in said
    assert "triage (of ward-tasks)" in said
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    assert "triage (of ward-" in " ".join(capsys.readouterr().out.split())  # argparse ends a line there


def test_a_shared_set_that_lacks_a_label_of_the_sites_is_named_with_what_to_do(tmp_path, capsys):
    """With one public and one test problem of two labels, each set lacks one."""
    own = own_table(tmp_path / "own.csv")
    sizes = ("--sites", "2", "--task", "math", *COLUMNS, "--public", "1", "--test", "1")
    assert prepare(own, tmp_path / "out", *sizes, dataset="table", sizes=False) == 0
    (there,) = {problem.label for problem in read_problems(tmp_path / "out" / "public.jsonl", task_named("math"))}
    (lacks,) = {"A", "B"} - {there}
    said = capsys.readouterr().out
    assert (
        f"WARNING: the public set has no problem labelled {lacks}, as sites have: sites exchange no answers to such "
        "problems; take more problems with --public, or another --seed\n" in said
    )
    assert "WARNING: the test set has no problem labelled " in said
    assert said.count("WARNING") == 2
    shared = ("--sites", "1", "--shared", str(tmp_path / "out"), *COLUMNS)
    assert prepare(own, tmp_path / "ward", *shared, dataset="table", sizes=False) == 0
    assert f"; tell who made {tmp_path / 'out'}\n" in capsys.readouterr().out


def test_a_test_split_that_has_no_problem_of_a_label_is_said_to_have_none(tmp_path, capsys):
    folder = tmp_path / "tables"
    folder.mkdir()
    own_table(folder / "train.csv")
    (folder / "test.csv").write_text("frage,loesung,fach\nhow many?,1,A\n")
    sizes = ("--sites", "2", "--task", "math", *COLUMNS, "--public", "12", "--test", "1")
    assert prepare(folder, tmp_path / "out", *sizes, dataset="table", sizes=False) == 0
    assert "no site is measured on such problems; the test split of the source has none\n" in capsys.readouterr().out


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
