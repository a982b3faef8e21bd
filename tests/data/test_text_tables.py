"""JSON and CSV files are read as they are written, and what is wrong with one is named with its line."""

import gzip
import json
from pathlib import Path

import pytest

from fedrlvr.data import problems
from fedrlvr.data.problems import ProblemFileError
from fedrlvr.data.sources import SOURCES, Pool, read_source
from fedrlvr.data.table import SourceError
from fedrlvr.tasks import task_named

ROW = {"question": "How many legs has a dog?", "answer": "It has #### 4"}


def read(dataset: str, path: Path, content: bytes | str | list) -> Pool:
    """The rows of a file with this content, or of JSON Lines."""
    if isinstance(content, list):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_source(dataset, str(path), task_named(SOURCES[dataset].task), True)


def packed(content: bytes) -> bytes:
    """Without the time, as tests are named by it, and all processes of pytest-xdist must find the same ones."""
    return gzip.compress(content, mtime=0)


def test_a_cell_of_a_csv_file_stays_the_text_that_it_is(tmp_path):
    head = "question,opa,opb,opc,opd,cop,subject_name\r\n"
    content = head + "Which gene?,None,NA,nan,null,0,NA\r\n\r\nHow much?,007,1.0,7,1e3,3,\r\n"
    pool = read("medmcqa", tmp_path / "a.csv", content)
    assert pool.refused == []
    assert [problem.choices for problem in pool.train] == [("None", "NA", "nan", "null"), ("007", "1.0", "7", "1e3")]
    assert [(problem.answer, problem.label) for problem in pool.train] == [("A", "NA"), ("D", "")]


@pytest.mark.parametrize("answers", [["7", "8"], ["1.50", "007"], ["1", "1,234"]])
def test_a_column_of_numbers_is_a_column_of_texts(tmp_path, answers):
    rows = [f'"How many {n}?",{json.dumps(answer)},3,a -> b\n' for n, answer in enumerate(answers)]
    pool = read("deepmath", tmp_path / "a.csv", "question,final_answer,difficulty,topic\n" + "".join(rows))
    assert [problem.answer for problem in pool.train] == answers
    assert pool.train[0].meta == {"topic": "a -> b", "difficulty": 3.0}


def test_numbers_in_json_are_texts_and_types_may_be_mixed(tmp_path):
    rows = [
        {"Body": "b", "Question": f"q{n}", "Answer": answer} for n, answer in enumerate([4, "4", 4.0, 0.25, "1,000"])
    ]
    pool = read("svamp", tmp_path / "a.jsonl", [*rows, ROW | {"Body": "b", "Question": "q", "Answer": True}])
    assert [problem.answer for problem in pool.train] == ["4", "4", "4.0", "0.25", "1000"]
    assert pool.refused == [("a.jsonl, line 6", "column Answer: expected text or a number, found bool")]


def test_lists_and_objects_in_a_csv_file_are_json(tmp_path):
    options = '"{""B"": ""two"", ""a"": ""one""}"'
    (problem,) = read("medqa", tmp_path / "a.csv", f"question,options,answer_idx\nq,{options}, b\n").train
    assert (problem.choices, problem.answer) == (("one", "two"), "B")
    (problem,) = read("mmlu", tmp_path / "b.csv", 'question,choices,answer\nq,"[""one"", 2]",0\n').train
    assert (problem.choices, problem.answer) == (("one", "2"), "A")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.jsonl", json.dumps(ROW) + "\n"),
        ("lines.json", "\n" + json.dumps(ROW)),
        ("mark.jsonl", b"\xef\xbb\xbf" + json.dumps(ROW).encode()),
        ("ends.jsonl", json.dumps(ROW) + "\r\n\r\n"),
        ("array.json", "\n" + json.dumps([ROW], indent=2)),
        ("packed.jsonl.gz", packed(json.dumps(ROW).encode())),
        ("a.csv", "question,answer\nHow many legs has a dog?,It has #### 4\n"),
        ("mark.csv", "\ufeffquestion,answer\r\nHow many legs has a dog?,It has #### 4\r\n"),
        ("packed.csv.gz", packed(b"answer,question\nIt has #### 4,How many legs has a dog?")),
    ],
)
def test_the_usual_forms_of_a_file_are_read(tmp_path, name, content):
    pool = read("gsm8k", tmp_path / name, content)
    assert [(problem.prompt, problem.answer) for problem in pool.train] == [("How many legs has a dog?", "4")]
    assert pool.refused == []


GOOD = json.dumps(ROW) + "\n"
HEAD = "question,answer\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.jsonl",
            GOOD.encode() + '{"question": "Ärzte"}'.encode("latin-1"),
            "line 2: cannot be read as UTF-8 (byte 15",
        ),
        (
            "a.jsonl",
            GOOD.encode("utf-16"),
            "line 1: cannot be read as UTF-8 (byte 1 is 0xff): the file seems to be in UTF-16",
        ),
        ("a.csv", HEAD.encode() + b"a,#### 4\nb\xe9,#### 5\n", "line 3: cannot be read as UTF-8 (byte 2 is 0xe9)"),
        ("a.json", b'[{"question": "\xe9"}]', "line 1: cannot be read as UTF-8 (byte 16 is 0xe9)"),
        ("a.jsonl", GOOD + "\ufeff" + GOOD, "line 2: not valid JSON (Expecting value at column 1, a byte order mark)"),
        ("a.jsonl", GOOD + '{"question": "q", "answer": "#### 1", "answer": "#### 2"}', "the key answer stands twice"),
        (
            "a.json",
            "[\n" + GOOD + ',{"answer": "#### 1", "answer": ""}]',
            "line 3: JSON that cannot be read (the key answer",
        ),
        (
            "a.jsonl",
            GOOD + '{"answer": ' + "7" * 100_000 + "}",
            "line 2: JSON that cannot be read (a number of too many",
        ),
        ("a.jsonl", "[" * 100_000, "line 1: JSON that cannot be read (nested too deeply)"),
        ("a.jsonl", GOOD + '{"a":' * 100_000, "line 2: JSON that cannot be read (nested too deeply)"),
        ("a.jsonl", GOOD + '{"answer": NaN}', "line 2: JSON that cannot be read (NaN is no JSON number)"),
        ("a.jsonl", GOOD + '{"answer": 1e999}', "line 2: JSON that cannot be read (a number that no float holds)"),
        ("a.jsonl", GOOD + "[1]", "line 2: expected a JSON object, found list"),
        ("a.json", '{"data": [1]}', "no column question; found data; expected question, answer"),
        ("a.json", json.dumps(ROW, indent=1), "line 1: not valid JSON"),
        ("a.jsonl", "\n \n", "a.jsonl: holds no row; expected at least one problem"),
        ("a.json", "[]", "a.json: holds no row"),
        ("a.csv", HEAD, "a.csv: holds no row"),
        ("a.csv", "\n", "a.csv: holds no row"),
        ("a.csv", HEAD + "a,b\nc,d,e\n", "line 3: 3 cells, expected 2 as in the first line; quote a cell"),
        ("a.csv", HEAD + 'a,b\n"c\n\n,d\n', "line 3: not valid CSV (unexpected end of data)"),
        ("a.csv", HEAD + '"a"b,c\n', "line 2: not valid CSV"),
        ("a.csv", "question,answer,answer\na,b,c\n", "line 1: two columns are called answer"),
        ("a.csv", "question;answer\na;1,5\n", "line 1: semicolons between the names, expected commas"),
        ("a.csv", "question\tanswer\na\tb\n", "line 1: tabs between the names, expected commas"),
        (
            "a.csv",
            f"{'How many dogs are there? ' * 9},b\na,b\n",
            "found 2 columns without proper names (a CSV file names",
        ),
        ("a.jsonl.gz", b"\x1f\x8b not packed", "cannot be read"),
        ("a.jsonl.gz", packed(GOOD.encode())[:-9], "cannot be read"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_file_that_is_not_right_is_refused_in_one_line(tmp_path, name, content, said):
    with pytest.raises((SourceError, ProblemFileError)) as caught:
        read("gsm8k", tmp_path / name, content)
    message = str(caught.value)
    assert name in message
    assert said in message
    assert message.isprintable()
    assert len(message) < len(str(tmp_path)) + 300


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(problems, "MAX_LINE", 1000)
    with pytest.raises(ProblemFileError, match=r"a\.jsonl\.gz, line 2: longer than 1,000 bytes; write one row a line"):
        read("gsm8k", tmp_path / "a.jsonl.gz", packed(GOOD.encode() + b"7" * 10**6))


def test_a_row_that_lacks_a_column_is_noted_with_its_line(tmp_path):
    pool = read("gsm8k", tmp_path / "a.jsonl", [ROW, {"question": "q"}, {"Question": "q", "answer": "#### 1"}])
    assert len(pool.train) == 1
    assert pool.refused == [("a.jsonl, line 2", "column answer: empty"), ("a.jsonl, line 3", "column question: empty")]


def test_files_with_other_columns_are_refused_by_name(tmp_path):
    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "test.jsonl").write_text('{"Question": "q", "answer": "#### 1"}')
    with pytest.raises(SourceError, match=r"gsm8k, test\.jsonl: no column question; found Question, answer"):
        read_source("gsm8k", str(tmp_path), task_named("math"), True)


def test_what_of_a_directory_is_not_read_is_said(tmp_path):
    for name in ("train.jsonl", "other.jsonl", "more/extra.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(GOOD)
    (tmp_path / "old.jsonl.zip").write_text("PK")
    pool = read_source("gsm8k", str(tmp_path), task_named("math"), True)
    assert len(pool.train) == 1
    assert pool.notes == ["not read: more/extra.jsonl, old.jsonl.zip, other.jsonl"]
    (tmp_path / "test.jsonl.zip").write_text("PK")
    with pytest.raises(SourceError, match=r"test\.jsonl\.zip: cannot be read; expected a directory"):
        read_source("gsm8k", str(tmp_path), task_named("math"), True)


def test_files_of_several_kinds_are_refused_with_the_remedy(tmp_path):
    (tmp_path / "train.jsonl").write_text(GOOD)
    (tmp_path / "test.csv").write_text("question,answer\na,#### 1\n")
    with pytest.raises(SourceError, match="put files of one kind alone into a directory"):
        read_source("gsm8k", str(tmp_path), task_named("math"), True)


@pytest.mark.parametrize(
    "row",
    [
        {"iIndex": 3, "sQuestion": "How many?", "lEquations": ["X=3+4"], "lSolutions": [7.0]},
        {"id": 3, "original_text": "How many?", "segmented_text": "How many ?", "equation": "x=3+4", "ans": 7.0},
        {"id": "mawps__3", "question": "How many?", "chain": "", "result": "7.0", "result_float": 7.0},
        {"Question": "How many?", "Numbers": "3 4", "Equation": "+ 3 4", "Answer": "7.0"},
    ],
)
def test_mawps_is_read_under_each_of_its_pairs_of_names(tmp_path, row):
    (problem,) = read("mawps", tmp_path / "a.json", [row]).train
    assert (problem.prompt, problem.answer) == ("How many?", "7.0")
    pool = read(
        "mawps", tmp_path / "b.json", [row | {"lSolutions": [1, 2], "ans": [1, 2], "result": [1, 2], "Answer": []}]
    )
    ((_, reason),) = pool.refused
    assert "answers, expected one" in reason


def test_asdiv_and_svamp_ask_their_facts_and_then_their_question(tmp_path):
    rows = [
        {"body": "There are 5 birds. ", "question": "How many legs?", "answer": "10 (legs)", "solution_type": "Ratio"},
        {"body": "It is 3,", "question": "what is 1/3?", "answer": "-(1/3)"},
        {"body": "It costs 9", "question": "How much?", "answer": "1,234.50 (dollars)"},
    ]
    pool = read("asdiv", tmp_path / "a.jsonl", rows)
    assert [(problem.prompt, problem.answer, problem.label) for problem in pool.train] == [
        ("There are 5 birds. How many legs?", "10", "Ratio"),
        ("It is 3, what is 1/3?", "-(1/3)", ""),
        ("It costs 9. How much?", "1234.50", ""),
    ]


@pytest.mark.parametrize("difficulty", ["nan", "Infinity", "1e999", "hard"])
def test_a_number_that_no_problem_file_can_hold_is_refused(tmp_path, difficulty):
    pool = read("deepmath", tmp_path / "a.csv", f"question,final_answer,difficulty,topic\nq,7,{difficulty},a\n")
    assert pool.refused == [("a.csv, line 2", "column difficulty: expected a number, found str")]
