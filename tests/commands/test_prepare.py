"""`fedrlvr prepare` from the command line: what is in the folder afterwards, what is printed, what is refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from matplotlib.image import imread
from tests.commands.preparing import NAMES, own_problems, prepare, refusal, save_math

from fedrlvr.data.manifest import check_manifest, read_manifest
from fedrlvr.data.problems import manifest_hash, read_problems, write_problems
from fedrlvr.tasks import task_named


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return save_math(tmp_path_factory.mktemp("source") / "math")


def test_a_data_set_becomes_the_files_of_a_federation(tmp_path, source, capsys):
    out = tmp_path / "deep" / "out"
    assert prepare(source, out, "--sites", "3", "--partition", "label", "--heldout", "4", "--seed", "3") == 0
    sites = ("site-1", "site-2", "site-3")
    files = {"public", "test", *sites, *(f"{site}.heldout" for site in sites)}
    assert {path.name for path in out.iterdir()} == {f"{name}.jsonl" for name in files} | {
        "manifest.json",
        "report.json",
        "partition.png",
    }
    sets = {name: read_problems(out / f"{name}.jsonl", task_named("math")) for name in files}
    assert {problem.task for problems in sets.values() for problem in problems} == {"math"}
    assert (len(sets["public"]), len(sets["test"])) == (6, 8)
    assert sum(map(len, sets.values())) == 60 + 8
    for site in sites:
        assert len({p.label for p in sets[site] + sets[f"{site}.heldout"]}) == 1
        assert len(sets[f"{site}.heldout"]) == 4
    manifest = read_manifest(out)
    assert (manifest.dataset, manifest.source, manifest.task, manifest.seed) == ("math", "math", "math", 3)
    assert manifest.public.sha256 == manifest_hash(sets["public"])
    assert manifest.counts == {name: len(problems) for name, problems in sets.items()}
    assert manifest.removed == {"left over in the test split": 4}
    assert check_manifest(out) == {"public": sets["public"], "test": sets["test"]}
    said = capsys.readouterr().out
    for words in (
        "site-3",
        "held out",
        "left out: left over in the test split 4",
        f"/{out.name}/site-1.jsonl is site-1's)",
    ):
        assert words in said
    assert f"next: `fedrlvr run math-qwen2.5-3b-instruct --tiny --data {out}`" in said
    assert "WARNING" not in said
    assert str(tmp_path) not in (out / "manifest.json").read_text()


def test_the_picture_is_a_picture(tmp_path, source):
    prepare(source, tmp_path / "out", "--sites", "2")
    height, width, _ = imread(tmp_path / "out" / "partition.png").shape
    assert width > height > 200


def test_the_same_again_is_the_same_to_the_byte(tmp_path, source):
    how = ("--sites", "2", "--partition", "dirichlet", "--alpha", "0.7", "--heldout", "2")
    for name, seed in (("one", "0"), ("two", "0"), ("other", "1")):
        assert prepare(source, tmp_path / name, *how, "--seed", seed) == 0
    files = {name: {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two", "other")}
    assert files["one"] == files["two"]
    assert files["one"]["public.jsonl"] != files["other"]["public.jsonl"]


def test_a_site_makes_its_private_files_for_sets_that_others_agreed_on(tmp_path, source, capsys):
    prepare(source, tmp_path / "agreed", "--sites", "2")
    shared = check_manifest(tmp_path / "agreed")
    own = own_problems(tmp_path / "ward.jsonl", task="math")
    write_problems(own, [*read_problems(own, task_named("math")), *shared["test"][:2], *shared["public"][:1]])
    out = tmp_path / "hospital"
    how = ("--sites", "1", "--heldout", "5", "--shared", str(tmp_path / "agreed"))
    assert prepare(own, out, *how, dataset="jsonl", sizes=False) == 0
    for name in ("public.jsonl", "test.jsonl", "manifest.json"):
        assert (out / name).read_bytes() == (tmp_path / "agreed" / name).read_bytes()
    assert len(read_problems(out / "site-1.jsonl", task_named("math"))) == 15
    assert len(read_problems(out / "site-1.heldout.jsonl", task_named("math"))) == 5
    report = json.loads((out / "report.json").read_text())
    assert report["removed"] == {"duplicates test": 2, "duplicates public": 1}
    assert {found["of"] for found in report["duplicates"]} == {found["id"] for found in report["duplicates"]}
    assert "left out: duplicates public 1, duplicates test 2" in capsys.readouterr().out


def test_an_edited_shared_set_is_refused_with_its_record(tmp_path, source, capsys):
    prepare(source, tmp_path / "agreed", "--sites", "2")
    public = check_manifest(tmp_path / "agreed")["public"]
    path = tmp_path / "agreed" / "public.jsonl"
    path.write_text(path.read_text().replace(f'"answer": "{public[2].answer}"', '"answer": "77"'))
    how = ("--sites", "1", "--shared", str(tmp_path / "agreed"))
    said = refusal(capsys, source, tmp_path / "out", *how, sizes=False)
    assert f"public.jsonl, line 3: record {public[2].id} differs from the manifest" in said


def test_sets_of_another_task_are_refused(tmp_path, source, capsys):
    prepare(source, tmp_path / "agreed", "--sites", "2")
    own = own_problems(tmp_path / "own.jsonl", task="arithmetic")
    how = ("--sites", "1", "--shared", str(tmp_path / "agreed"))
    said = refusal(capsys, own, tmp_path / "out", *how, dataset="jsonl", sizes=False)
    assert "its sets are for task math, these problems for arithmetic" in said


def test_bad_golds_are_listed_and_left_out_only_on_request(tmp_path, capsys):
    source = save_math(tmp_path / "math", solution="So SECRET.")
    said = refusal(capsys, source, tmp_path / "out", "--sites", "2")
    assert "rows that cannot be used: 1\n" in said
    assert "  1: column solution: no \\boxed{} in it (train-00000-of-00001.parquet, row 5)\n" in said
    assert "nothing was written; --allow-bad-golds leaves them out" in said
    assert prepare(source, tmp_path / "out", "--sites", "2", "--allow-bad-golds") == 0
    report = (tmp_path / "out" / "report.json").read_text()
    assert json.loads(report)["removed"]["bad gold"] == 1
    assert len(json.loads(report)["refused"]) == 1
    printed = capsys.readouterr().out
    assert "left out: bad gold 1, left over" in printed
    assert "  1: column solution: no \\boxed{} in it (train-00000-of-00001.parquet, row 5)\n" in printed
    assert "SECRET" not in said + report + printed


def test_of_many_bad_golds_some_are_listed_and_the_others_counted(tmp_path, capsys):
    own = own_problems(tmp_path / "own.jsonl", 9, choices=("a", "b"), task="math")
    said = refusal(capsys, own, tmp_path / "out", "--sites", "2", dataset="jsonl")
    assert "rows that cannot be used: 9\n" in said
    assert "  9: field choices: not a math problem" in said
    assert "own.jsonl, line 5; and 4 more)" in said
    assert "line 6" not in said


def test_questions_with_other_answers_are_named_and_equal_answers_are_none(tmp_path, capsys):
    own = own_problems(tmp_path / "own.jsonl", 20, task="math")
    problems = read_problems(own, task_named("math"))
    more = [("17", "8.5"), ("18", "18.0"), ("19", "\\frac{38}{2}"), ("16", "1"), ("16", "2")]
    again = [replace(problems[int(n)], id=f"again-{n}-{k}", answer=answer) for k, (n, answer) in enumerate(more)]
    write_problems(own, [*problems, *again])
    assert prepare(own, tmp_path / "out", "--sites", "2", dataset="jsonl") == 0
    said = capsys.readouterr().out
    assert "left out: conflicting answers 5, repeats another 2\n" in said
    places = [[f"{own}, line {n}" for n in lines] for lines in ((17, 24, 25), (18, 21))]
    first, second = (" and ".join(there) for there in places)
    assert f"  the same question with other answers: {first}; {second}\n" in said
    assert json.loads((tmp_path / "out" / "report.json").read_text())["conflicts"] == places


def test_ids_of_several_problems_are_refused_with_their_places(tmp_path, capsys):
    own = own_problems(tmp_path / "own.jsonl", 20, task="math")
    own.write_text(own.read_text().replace('"own-7"', '"own-3"'))
    said = refusal(capsys, own, tmp_path / "out", "--sites", "1", dataset="jsonl")
    assert "1 ids belong to more than one problem" in said
    assert "own.jsonl, line 4" in said
    assert "own.jsonl, line 8" in said


def test_how_options_are_counted_is_printed_or_asked_for(tmp_path, capsys):
    def rows(numbers: list[int]) -> Path:
        made = [
            {"question": f"{NAMES[n % 5]} of ward {n}?", "choices": [f"dose {k}{n}" for k in "abcd"], "answer": number}
            for n, number in enumerate(numbers * 8)
        ]
        (tmp_path / "mmlu.json").write_text(json.dumps(made))
        return tmp_path / "mmlu.json"

    assert prepare(rows([1, 2, 4]), tmp_path / "a", "--sites", "2", dataset="mmlu") == 0
    said = capsys.readouterr().out
    assert "note: mmlu.json, column answer: counts the options from 1, as it has the number of a last option" in said
    said = refusal(capsys, rows([1, 2, 3]), tmp_path / "b", "--sites", "2", dataset="mmlu")
    assert "say it with --first-option 0 or --first-option 1" in said
    assert prepare(rows([1, 2, 3]), tmp_path / "b", "--sites", "2", "--first-option", "0", dataset="mmlu") == 0
    assert (
        "note: mmlu.json, column answer: counts the options from 0, as --first-option says" in capsys.readouterr().out
    )
    lines = [line for file in (tmp_path / "b").glob("*.jsonl") for line in file.read_text().splitlines()]
    assert {json.loads(line)["answer"] for line in lines} == {"B", "C", "D"}


def test_our_own_files_need_a_task(tmp_path, capsys):
    own = own_problems(tmp_path / "own.jsonl", 30)
    how = {"dataset": "jsonl"}
    assert "names no task; say which with --task" in refusal(capsys, own, tmp_path / "out", "--sites", "2", **how)
    assert "no task is called 'maths'" in refusal(
        capsys, own, tmp_path / "out", "--sites", "2", "--task", "maths", **how
    )
    assert prepare(own, tmp_path / "out", "--sites", "2", "--task", "arithmetic", **how) == 0
    assert "test: taken from train, as there is no test split" in capsys.readouterr().out
    named = own_problems(tmp_path / "named.jsonl", task="arithmetic")
    said = refusal(capsys, named, tmp_path / "other", "--sites", "2", "--task", "math", **how)
    assert "the problems are for task arithmetic; leave --task out" in said


def test_a_folder_that_holds_something_is_left_alone(tmp_path, source, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert f"{out}: exists already" in refusal(capsys, source, out, "--sites", "2")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--sites", "0"), "prepare: sites: Input should be greater than or equal to 1 (found 0)"),
        (("--sites", "2", "--alpha", "0.5"), "alpha: expected with partition dirichlet, and only with it"),
        (("--sites", "2", "--partition", "dirichlet", "--alpha", "0"), "alpha: Input should be greater than 0"),
        (("--sites", "2", "--public", "500"), "public: 500 problems asked for, but only 60 of the 60"),
        (("--sites", "2", "--public", "0"), "public: Input should be greater than or equal to 1"),
        (("--sites", "4", "--partition", "label"), "4 sites, but the private problems have 3 labels"),
        (("--sites", "2", "--heldout", "40"), "heldout is 40, but it has 27 problems in all"),
        (("--sites", "2", "--task", "choice"), "--task: math is for task math; leave --task out"),
        (("--sites", "2", "--first-option", "1"), "--first-option: math has no numbers of options; leave it out"),
        (("--sites", "2", "--shared", "nowhere"), "either a number of problems or a shared set"),
    ],
)
def test_an_impossible_plan_or_source_is_refused_in_one_message(tmp_path, source, capsys, more, said):
    assert said in refusal(capsys, source, tmp_path / "out", *more)


def prepare_from_hub(out: Path, **environment: str) -> str:
    """The message of a failing process of its own, as the hub's library reads its address on import."""
    command = [sys.executable, "-m", "fedrlvr.cli", "prepare", "--dataset", "gsm8k", "--sites", "2"]
    command += ["--public", "6", "--test", "8", "--out", str(out)]
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_HOME": str(out.parent / "home")} | environment
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: openai/gsm8k: ")
    assert done.stderr.strip().count("\n") == 0
    assert not out.exists()
    return done.stderr


def test_a_hub_that_cannot_be_reached_is_said_in_one_line(tmp_path):
    said = prepare_from_hub(tmp_path / "out", HF_ENDPOINT="http://127.0.0.1:9")
    assert "no such path here, and the hub cannot be reached" in said
    assert "give its directory as --source, or set HF_HUB_OFFLINE=1 to use a cached copy" in said


def test_a_data_set_that_the_hub_does_not_have_is_said_in_one_line(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)  # which has no such page
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        said = prepare_from_hub(tmp_path / "out", HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert "neither a path here nor a data set that the hub lets this machine read; check the spelling" in said


def test_offline_without_a_cached_copy_is_said_in_one_line(tmp_path):
    assert "the datasets library cannot read it" in prepare_from_hub(tmp_path / "out", HF_HUB_OFFLINE="1")
