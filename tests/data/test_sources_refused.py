"""Everything that is not the data set it should be is refused in one line that says what, where and what to do."""

from pathlib import Path

import pytest
from datasets import Dataset

from fedrlvr.data.problems import ProblemFileError
from fedrlvr.data.sources import SOURCES, read_source
from fedrlvr.data.tables import SourceError
from fedrlvr.tasks import task_named


def refusal(dataset: str, source: Path | str) -> str:
    with pytest.raises((SourceError, ProblemFileError)) as caught:
        read_source(dataset, str(source), task_named(SOURCES[dataset].task), True)
    assert "What is the number" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dataset", SOURCES)
def test_a_missing_column_is_named_with_those_there_and_those_expected(tmp_path, hub, dataset):
    columns = SOURCES[dataset].layouts[0].columns
    for column in columns:
        rows = hub.tables(dataset, 2)[SOURCES[dataset].train].remove_columns(column)
        file = tmp_path / f"{column}.parquet"
        rows.to_parquet(file)
        message = refusal(dataset, file)
        assert f"{dataset}, {file.name}: no column {column}; found {', '.join(sorted(rows.column_names))}" in message
        assert message.endswith(f"expected {', '.join(columns)}")


@pytest.mark.parametrize(
    ("dataset", "column", "values", "said"),
    [
        ("math", "solution", [1, 2], "expected text, found int64"),
        ("deepmath", "difficulty", ["5", "6"], "expected a number, found string"),
        ("medmcqa", "cop", ["a", "b"], "expected an integer, found string"),
        ("medmcqa", "cop", [0.5, 1.0], "expected an integer, found float64"),
        ("medmcqa", "choice_type", [1, 2], "expected text or nothing, found int64"),
        ("medqa", "options", ["a", "b"], "expected an object of the texts A, B, ..., found string"),
        ("medqa", "options", [{"A": ["a"], "B": ["b"]}] * 2, "expected an object of the texts A, B, ..., found dict"),
        ("mmlu", "choices", ["a", "b"], "expected a list of texts, found string"),
        ("mmlu", "choices", [[["a"]], [["b"]]], "expected a list of texts, found List"),
        ("mmlu", "answer", [0.0, 1.0], "expected an integer or a letter, found float64"),
        ("svamp", "Answer", [True, False], "expected text or a number, found bool"),
        ("gsm8k", "question", [None, None], "expected text, found null"),
        ("gsm8k", "question", [["a"], ["b"]], "expected text, found List"),
    ],
)
def test_a_column_of_another_kind_is_refused(tmp_path, hub, dataset, column, values, said):
    columns = hub.tables(dataset, 2)[SOURCES[dataset].train].remove_columns(column).to_dict()
    Dataset.from_dict(columns | {column: values}).to_parquet(tmp_path / "rows.parquet")
    assert f"{dataset}, rows.parquet, column {column}: {said}" in refusal(dataset, tmp_path / "rows.parquet")


def test_csv_files_on_the_hub_are_refused_as_the_library_would_read_them(tmp_path, hub, monkeypatch):
    """A directory stands for the hub, which the library would take it from in the same way."""
    monkeypatch.setattr("fedrlvr.data.tables._hub_revision", lambda source: None)
    monkeypatch.setattr("fedrlvr.data.tables.Path.exists", lambda path: False)
    monkeypatch.chdir(tmp_path)
    hub.save("gsm8k", tmp_path / "some" / "set" / "main", "csv", 2)
    assert "some/set: is CSV, where datasets changes cells such as NA and 007" in refusal("gsm8k", "some/set")


def test_an_empty_split_is_refused(tmp_path, hub):
    splits = hub.tables("gsm8k", 2)
    splits["test"] = splits["test"].select([])
    hub.save_hub(tmp_path, {"main": splits})
    assert "gsm8k, main/test-00000-of-00001.parquet: holds no row" in refusal("gsm8k", tmp_path)


def test_a_data_set_without_a_train_split_is_refused(tmp_path, hub):
    hub.save_hub(tmp_path, {"": {"test": hub.tables("gsm8k", 2)["test"]}})
    assert "no split train of gsm8k; found test" in refusal("gsm8k", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"<!DOCTYPE html><html>not found</html>", "a web page, as a failed download leaves"),
        ("a.parquet", b"\n <html lang=en>", "a web page"),
        ("a.json", b"<html></html>", "a web page"),
        ("a.arrow", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a git-lfs pointer"),
        ("a.parquet", b"", "empty file"),
        ("a.parquet", b"something else", "not a parquet file by its first bytes"),
        ("a.arrow", b"something else", "not a arrow file by its first bytes"),
        ("a.parquet", b"PAR1 and half of it", "the end of this parquet file is missing"),
        ("a.parquet", b"PAR1 and nonsense PAR1", "the datasets library cannot read it"),
        ("a.json", b'{"question": "What is the number', "a.json, line 1: not valid JSON (Unterminated string"),
        ("a.txt", b"What is the number?", "cannot be read; expected a directory or a file with one of .parquet"),
    ],
)
def test_what_is_not_the_data_is_recognised(tmp_path, name, content, said):
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / name
    file.write_bytes(content)
    assert said in refusal("gsm8k", file)
    message = refusal("gsm8k", folder)
    assert (said if file.suffix != ".txt" else "no data in this directory") in message
    assert "\n" not in message


@pytest.mark.parametrize("source", ["/nowhere/at/all", "./data", "gsm8k", "a/b.parquet", "data/train/x"])
def test_a_missing_path_is_no_hub_id(source):
    assert f"{source}: no such file or directory; expected a directory or a file" in refusal("gsm8k", source)


def test_a_missing_part_of_a_split_is_named(tmp_path):
    for number in (0, 2):
        (tmp_path / f"train-{number:05}-of-00003.jsonl").write_text('{"question": "1+1?", "answer": "#### 2"}\n')
    assert "train-00001-of-00003.jsonl is missing" in refusal("gsm8k", tmp_path)
