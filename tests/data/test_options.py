"""Which option is right: letters, numbers from 0, numbers from 1, and numbers that do not show it."""

import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset

from fedrlvr.data.sources import SOURCES, Pool, read_source
from fedrlvr.data.table import SourceError
from fedrlvr.tasks import task_named


def medmcqa(cop: object, number: int) -> dict:
    options = {f"op{letter}": f"drug {letter}{number}" for letter in "abcd"}
    return {"question": f"Which is it, {number}?", **options, "cop": cop, "subject_name": "Surgery"}


def mmlu(answer: object, number: int, count: int = 4) -> dict:
    return {"question": f"Which is it, {number}?", "choices": [f"drug {n}" for n in range(count)], "answer": answer}


def read(dataset: str, path: Path, rows: list[dict], first: int | None = None) -> Pool:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_source(dataset, str(path), task_named(SOURCES[dataset].task), True, first=first)


def letters(pool: Pool) -> str:
    return "".join(problem.answer for problem in pool.train)


@pytest.mark.parametrize(("dataset", "row", "column"), [("medmcqa", medmcqa, "cop"), ("mmlu", mmlu, "answer")])
def test_numbers_show_whether_they_count_from_0_or_from_1(tmp_path, dataset, row, column):
    def rows(numbers: list) -> list[dict]:
        return [row(number, place) for place, number in enumerate(numbers)]

    pool = read(dataset, tmp_path / "a.jsonl", rows([2, 0, 1, 3]))
    assert (letters(pool), pool.notes) == ("CABD", [])
    pool = read(dataset, tmp_path / "a.jsonl", rows([2, 4, 1, 3]))
    assert letters(pool) == "BDAC"
    (note,) = pool.notes
    assert note.startswith(
        f"a.jsonl, column {column}: counts the options from 1, as it has the number of a last option"
    )
    for numbers, shows in (([1, 2, 3], "neither 0 nor"), ([0, 1, 4], "both 0 and")):
        with pytest.raises(SourceError, match=f"a.jsonl, column {column}: has {shows}.*--first-option 0 or --first"):
            read(dataset, tmp_path / "a.jsonl", rows(numbers))
    for first, expected in ((0, "BCD"), (1, "ABC")):
        pool = read(dataset, tmp_path / "a.jsonl", rows([1, 2, 3]), first)
        assert letters(pool) == expected
        assert f"counts the options from {first}, as --first-option says" in pool.notes[0]
    pool = read(dataset, tmp_path / "a.jsonl", rows([0, 1, 4]), 1)
    assert letters(pool) == "AD"
    assert pool.refused == [("a.jsonl, line 1", f"column {column}: out of range: expected 1 to 4")]


@pytest.mark.parametrize(("numbers", "first"), [([0, 1, 3], 1), ([1, 4], 0)])
def test_what_the_numbers_show_is_not_overruled(tmp_path, numbers, first):
    with pytest.raises(SourceError, match=r"column cop: has .*leave --first-option out"):
        read("medmcqa", tmp_path / "a.jsonl", [medmcqa(cop, n) for n, cop in enumerate(numbers)], first)


def test_each_file_shows_it_for_itself(tmp_path):
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(medmcqa(cop, cop)) + "\n" for cop in (0, 3)))
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(medmcqa(cop, 9 + cop)) + "\n" for cop in (1, 4)))
    pool = read_source("medmcqa", str(tmp_path), task_named("choice"), True)
    assert (letters(pool), "".join(problem.answer for problem in pool.test)) == ("AD", "AD")
    assert len(pool.notes) == 1


def test_hidden_labels_show_nothing(tmp_path):
    pool = read("medmcqa", tmp_path / "a.jsonl", [medmcqa(-1, 0), medmcqa(None, 1)])
    assert [reason for _, reason in pool.refused] == ["column cop: empty", "column cop: out of range: expected 0 to 3"]


def test_a_column_of_named_labels_counts_from_0(tmp_path):
    rows = Dataset.from_list([mmlu(1, 0), mmlu(2, 1)]).cast_column("answer", ClassLabel(names=["A", "B", "C", "D"]))
    rows.to_parquet(tmp_path / "a.parquet")
    pool = read_source("mmlu", str(tmp_path / "a.parquet"), task_named("choice"), True)
    assert (letters(pool), pool.notes) == ("BC", [])
    with pytest.raises(SourceError, match="so it does not count from 1; leave --first-option out"):
        read_source("mmlu", str(tmp_path / "a.parquet"), task_named("choice"), True, first=1)


def test_letters_of_either_case_and_numbers_as_text_are_read(tmp_path):
    assert (
        letters(read("mmlu", tmp_path / "a.jsonl", [mmlu("b", 0), mmlu(" D ", 1), mmlu("0", 2), mmlu(2, 3)])) == "BDAC"
    )
    pool = read(
        "mmlu", tmp_path / "a.jsonl", [mmlu("E", 0), mmlu("E", 1, 5), mmlu("drug 2", 2), mmlu("", 3), mmlu(1.0, 4)]
    )
    assert letters(pool) == "E"
    assert dict(pool.refused) == {
        "a.jsonl, line 1": "column answer: out of range: expected A to D",
        "a.jsonl, line 3": "column answer: expected an integer or a letter, found str",
        "a.jsonl, line 4": "column answer: empty",
        "a.jsonl, line 5": "column answer: expected an integer or a letter, found float",
    }


def test_options_by_letter_are_read_in_the_order_of_their_letters(tmp_path):
    def medqa(options: dict, number: int, **more) -> dict:
        return {"question": f"Which is it, {number}?", "options": options, "answer_idx": "B"} | more

    rows = [
        medqa({"B": "two", "A": "one", "C": "three"}, 0, answer=" TWO"),
        medqa({"a": "one", "b": 2}, 1, answer=2),
        medqa({"A": "one", "B": "two"}, 2, answer="one"),
        medqa({"A": "one", "C": "two"}, 3),
        medqa({"A": "one", "a": "two", "B": "three"}, 4),
        medqa({"A": "one", "B": None}, 5),
        medqa({}, 6),
        medqa(["one", "two"], 7),
    ]
    pool = read("medqa", tmp_path / "a.jsonl", rows)
    assert [problem.choices for problem in pool.train] == [("one", "two", "three"), ("one", "2")]
    assert [where[-1] for where, _ in pool.refused] == ["4", "5", "7", "8", "3", "6"]
    said = dict(pool.refused)
    assert said["a.jsonl, line 3"] == "column answer: is not the text of the option that column answer_idx names"
    assert "without a gap" in said["a.jsonl, line 4"]
    assert said["a.jsonl, line 8"].startswith("column options: expected an object of the texts A, B, ...")
