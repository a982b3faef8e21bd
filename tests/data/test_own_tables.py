"""Tables of the user's own, by the names of their columns: what becomes of each row, and what is refused."""

from pathlib import Path

import pytest
from datasets import Dataset

from fedrlvr.data.own_tables import columns_of, names_in, own_source
from fedrlvr.data.sources import Pool, read_source
from fedrlvr.data.table import SourceError
from fedrlvr.tasks import task_named

MATHS = "question=frage,answer=loesung,label=fach"
CHOICES = "question=q,answer=right,choices=a+b+c"


def read(path: Path, columns: str, task: str, first: int | None = None) -> Pool:
    known = own_source(columns_of(columns), task)
    return read_source("table", str(path), task_named(task), True, first=first, known=known)


def csv(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_csv_of_questions_and_answers(tmp_path):
    file = csv(
        tmp_path / "own.csv", "nr,frage,loesung,fach", '1,"How much is 1, 2 and 4?",007,Sums', "2,And one half?,1/2,"
    )
    pool = read(file, MATHS, "math")
    first, second = pool.train
    assert (first.prompt, first.answer, first.label, first.task) == ("How much is 1, 2 and 4?", "007", "Sums", "math")
    assert (second.answer, second.label) == ("1/2", "")
    assert first.id.startswith("table-")
    assert first.id != second.id
    assert (pool.test, pool.refused, pool.notes) == (None, [], [])


def test_a_parquet_with_numbers_as_answers_and_labels(tmp_path):
    rows = {"frage": ["How many?", "How much?"], "loesung": [12, 7], "fach": [1, 2], "other": [[1], [2]]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "own.parquet")
    pool = read(tmp_path / "own.parquet", MATHS, "math")
    assert [(p.prompt, p.answer, p.label) for p in pool.train] == [("How many?", "12", "1"), ("How much?", "7", "2")]


def test_a_folder_with_a_test_file_has_a_test_set(tmp_path):
    csv(tmp_path / "train.csv", "frage,loesung,fach", "One?,1,x")
    csv(tmp_path / "test.csv", "frage,loesung,fach", "Two?,2,x")
    pool = read(tmp_path, MATHS, "math")
    assert [p.answer for p in pool.train] == ["1"]
    assert [p.answer for p in pool.test] == ["2"]


def test_the_right_option_is_a_letter_a_number_or_its_text(tmp_path):
    file = csv(
        tmp_path / "own.csv",
        "q,a,b,c,right",
        "first?,iron,zinc,lead,b",
        "second?,iron,zinc,lead,3",
        "third?,iron,zinc,,iron",
        "fourth?,iron,zinc,,1",
    )
    pool = read(file, CHOICES, "choice")
    assert [(p.answer, p.choices) for p in pool.train] == [
        ("B", ("iron", "zinc", "lead")),
        ("C", ("iron", "zinc", "lead")),
        ("A", ("iron", "zinc")),
        ("A", ("iron", "zinc")),
    ]
    assert "counts the options from 1" in pool.notes[0]


def test_options_may_be_a_list_in_one_column(tmp_path):
    columns = "question=q,answer=right,choices=options"
    file = csv(tmp_path / "own.csv", "q,options,right", '"one?","[""iron"", ""zinc""]",zinc')
    (problem,) = read(file, columns, "choice").train
    assert (problem.choices, problem.answer) == (("iron", "zinc"), "B")
    rows = {"q": ["one?", "two?"], "options": [["iron", "zinc"], ["lead", "gold"]], "right": [0, 1]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "own.parquet")
    assert [p.answer for p in read(tmp_path / "own.parquet", columns, "choice").train] == ["A", "B"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("one?,iron,zinc,lead,tin", "column right: neither a letter, nor a number, nor the text of one option"),
        ("one?,iron,iron,lead,iron", "column right: neither a letter, nor a number, nor the text of one option"),
        ("blood?,B,A,AB,A", "column right: a letter or number that is the text of another option, too"),
        ("how many?,2,3,4,3", "column right: a letter or number that is the text of another option, too"),
        ("one?,iron,zinc,lead,D", "column right: out of range: expected A to C"),
        ("one?,iron,,lead,A", "column b: empty, and a later option is not"),
        ("one?,iron,zinc,lead,", "column right: empty"),
        (",iron,zinc,lead,A", "column q: empty"),
    ],
)
def test_a_row_that_is_not_clear_is_refused_with_its_line_and_not_quoted(tmp_path, row, said):
    file = csv(tmp_path / "own.csv", "q,a,b,c,right", "zero?,iron,zinc,lead,A", row)
    pool = read(file, CHOICES, "choice")
    ((where, reason),) = pool.refused
    assert where == "own.csv, line 3"
    assert reason.startswith(said)
    assert "iron" not in reason
    assert len(pool.train) == 1


def test_a_letter_that_is_also_its_own_options_text_is_clear(tmp_path):
    file = csv(tmp_path / "own.csv", "q,a,b,c,right", "blood?,A,B,AB,B")
    assert [p.answer for p in read(file, CHOICES, "choice").train] == ["B"]


def test_an_answer_that_its_verifier_cannot_compare_is_refused(tmp_path):
    file = csv(tmp_path / "own.csv", "frage,loesung,fach", "One?,1,x", "What is shown?,see figure,x")
    ((where, reason),) = read(file, MATHS, "math").refused
    assert where == "own.csv, line 3"
    assert "answer" in reason


def test_a_column_of_ids(tmp_path):
    columns = "question=frage,answer=loesung,id=nr"
    file = csv(tmp_path / "own.csv", "nr,frage,loesung", "K-07,One?,1", "8,Two?,2", ",Three?,3", "K-07,Four?,4")
    pool = read(file, columns, "math")
    assert [(p.id, p.prompt) for p in pool.train] == [("K-07", "One?"), ("8", "Two?")]
    assert pool.refused == [
        ("own.csv, line 4", "column nr: empty"),
        ("own.csv, line 5", "id: the same as that of an earlier row; expected another in every row"),
    ]


def test_ids_differ_between_train_and_test(tmp_path):
    columns = "question=frage,answer=loesung,id=nr"
    csv(tmp_path / "train.csv", "nr,frage,loesung", "1,One?,1")
    csv(tmp_path / "test.csv", "nr,frage,loesung", "1,Two?,2", "2,Three?,3")
    pool = read(tmp_path, columns, "math")
    assert ([p.id for p in pool.train], [p.id for p in pool.test]) == (["1"], ["2"])
    assert [where for where, _ in pool.refused] == ["test.csv, line 2"]


def test_columns_that_are_not_there_are_named_beside_those_that_are(tmp_path):
    file = csv(tmp_path / "own.csv", "frage,antwort,fach", "One?,1,x")
    with pytest.raises(SourceError) as caught:
        read(file, MATHS, "math")
    assert str(caught.value) == (
        "table, own.csv: no column loesung; found antwort, fach, frage; expected frage, loesung, fach"
    )
    assert names_in(str(file)) == "antwort, fach, frage"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question=q", "names no answer; expected question=NAME,answer=NAME"),
        ("answer=a", "names no question"),
        ("", "expected question=NAME,answer=NAME"),
        ("question", "question: expected question=NAME,answer=NAME"),
        ("question=,answer=a", "question=: expected"),
        ("question=q,answer=a,prompt=p", "prompt=p: expected"),
        ("question=q,question=r,answer=a", "question is named twice"),
        ("question=q,answer=q", "column q stands there twice"),
        ("question=q,answer=a,choices=b+b", "column b stands there twice"),
        ("question=q,answer=a,choices=b+", "expected a name before and after each +"),
    ],
)
def test_columns_that_are_named_wrong_are_refused(text, said):
    with pytest.raises(SourceError, match=r"^--columns: ") as caught:
        columns_of(text)
    assert said in str(caught.value)


def test_columns_may_be_named_with_blanks_between():
    assert columns_of("question = my question, answer=a , choices=b + c") == {
        "question": ("my question",),
        "answer": ("a",),
        "choices": ("b", "c"),
    }
