"""A manifest finds every edit of the sets it was written for, and names the first edited record."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedrlvr.data.manifest import Manifest, SetManifest, check_manifest, read_manifest
from fedrlvr.data.problems import ProblemFileError, write_problems
from fedrlvr.types import Problem

PUBLIC = [Problem(f"p{n}", f"how many secrets {n}?", str(n), meta={"level": "1"}) for n in range(4)]
TEST = [Problem("t", "how many?", "1")]


@pytest.fixture
def folder(tmp_path) -> Path:
    manifest = Manifest(
        dataset="math",
        source="EleutherAI/hendrycks_math",
        task="math",
        seed=0,
        public=SetManifest.of(PUBLIC),
        test=SetManifest.of(TEST),
        counts={"public": 4, "test": 1},
        removed={},
        versions={"fedrlvr": "0"},
    )
    write_problems(tmp_path / "public.jsonl", PUBLIC)
    write_problems(tmp_path / "test.jsonl", TEST)
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    return tmp_path


def test_untouched_files_are_what_the_manifest_says(folder):
    assert check_manifest(folder) == {"public": PUBLIC, "test": TEST}
    assert list(read_manifest(folder).public.records) == ["p0", "p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("public", "said"),
    [
        ([*PUBLIC[:2], replace(PUBLIC[2], answer="9"), PUBLIC[3]], "line 3: record p2 differs from the manifest"),
        ([*PUBLIC[:2], replace(PUBLIC[2], prompt="secret?"), PUBLIC[3]], "line 3: record p2 differs from"),
        ([*PUBLIC[:2], replace(PUBLIC[2], meta={"level": "2"}), PUBLIC[3]], "line 3: record p2 differs from"),
        ([*PUBLIC, replace(PUBLIC[0], id="new")], "line 5: record new is not in the manifest"),
        ([*PUBLIC, PUBLIC[1]], "line 5: record p1 is on an earlier line already"),
        ([PUBLIC[0], *PUBLIC[2:]], "public.jsonl: record p1 of the manifest is missing"),
        ([PUBLIC[0], PUBLIC[2], PUBLIC[1], PUBLIC[3]], "public.jsonl: record p2 is where the manifest has p1"),
    ],
)
def test_an_edit_is_found_and_named_by_id_alone(folder, public, said):
    write_problems(folder / "public.jsonl", public)
    with pytest.raises(ProblemFileError) as caught:
        check_manifest(folder)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_edited_test_set_and_an_edited_hash_are_found(folder):
    write_problems(folder / "test.jsonl", [replace(TEST[0], answer="2")])
    with pytest.raises(ProblemFileError, match=r"test\.jsonl, line 1: record t differs"):
        check_manifest(folder)
    write_problems(folder / "test.jsonl", TEST)
    values = json.loads((folder / "manifest.json").read_text())
    values["public"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ProblemFileError, match="own sha256 is not that of its records"):
        check_manifest(folder)


def test_a_manifest_that_cannot_be_read_is_refused_by_name_and_key(folder):
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    for text, said in (
        ("not json", r"not valid JSON \(Expecting value at column 1\); "),
        ('{"seed": 1, "seed": 2}', r"JSON that cannot be read \(the key seed stands twice in one object\); "),
        ("[" * 100_000, r"JSON that cannot be read \(nested too deeply\); "),
        ('{"seed": ' + "9" * 100_000, r"JSON that cannot be read \(a number of too many digits\); "),
        ("[]", "whole file: Input should be a valid dictionary"),
        (json.dumps(values | {"seed": "x"}), "seed: Input should be a valid integer"),
        (json.dumps(values | {"public": {"sha256": "0"}}), r"public\.records: Field required"),
        (json.dumps(values | {"extra": 1}), "extra: Extra inputs are not permitted"),
    ):
        path.write_text(text)
        with pytest.raises(ProblemFileError, match=rf"manifest\.json[,:] {said}.*expected it as"):
            read_manifest(folder)
    path.unlink()
    with pytest.raises(ProblemFileError, match=r"cannot be read.*expected the folder of an earlier"):
        read_manifest(folder)


def test_a_file_that_is_no_problem_file_is_refused(folder):
    (folder / "public.jsonl").write_text("[]\n")
    with pytest.raises(ProblemFileError, match="line 1"):
        check_manifest(folder)
