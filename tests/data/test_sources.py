"""The known data sets in their exact schemas, from every kind of place, and our own files."""

from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets

from fedrlvr.data.problems import ProblemFileError, write_problems
from fedrlvr.data.sources import SOURCES, Pool, read_jsonl, read_source
from fedrlvr.data.tables import SourceError
from fedrlvr.tasks import task_named
from fedrlvr.types import Problem


def read(dataset: str, source: Path | str, with_test: bool = True) -> Pool:
    return read_source(dataset, str(source), task_named(SOURCES[dataset].task), with_test)


def refusal(dataset: str, source: Path | str) -> str:
    with pytest.raises(SourceError) as caught:
        read(dataset, source)
    assert "What is the number" not in str(caught.value)
    return str(caught.value)


SEVENTH = {  # of train: answer, label, options, meta
    "math": ("7", "Geometry", (), {"level": "Level 3"}),
    "deepmath": ("7", "Geometry", (), {"topic": "Mathematics -> Geometry -> Lines", "difficulty": 4.5}),
    "gsm8k": ("1007", "", (), {}),
    "svamp": ("7.0", "Subtraction", (), {}),
    "asdiv": ("7", "Sum", (), {}),
    "mawps": ("7", "", (), {}),
    "mmlu": ("D", "virology", ("a drug 7 train", "b drug 7 train", "c drug 7 train", "d drug 7 train"), {}),
    "medqa": ("D", "step1", ("a drug 7 train", "b drug 7 train", "c drug 7 train", "d drug 7 train"), {}),
    "medmcqa": ("D", "Surgery", ("a drug 7 train", "b drug 7 train", "c drug 7 train", "d drug 7 train"), {}),
}


PLACES = [(dataset, how) for dataset in SOURCES for how in ("hub", "bare", "saved", "json", "csv")]
PLACES.remove(("medqa", "csv"))  # as the library writes it there, with the objects of Python
PLACES.remove(("mmlu", "csv"))


@pytest.mark.parametrize(("dataset", "how"), PLACES)
def test_every_data_set_is_read_from_every_kind_of_directory(tmp_path, hub, dataset, how):
    if how == "csv":
        (tmp_path / "csv").mkdir()
        for split, rows in hub.tables(dataset).items():
            columns = [column for column in rows.column_names if column in SOURCES[dataset].columns]
            rows.select_columns(columns).to_csv(tmp_path / "csv" / f"{split}.csv")
    else:
        hub.save(dataset, tmp_path / how, how)
    pool = read(dataset, tmp_path / how)
    assert (pool.refused, pool.skipped, pool.revision) == ([], 0, "")
    assert len(pool.train) == 24
    assert (pool.test is None) if SOURCES[dataset].test == "" else len(pool.test) == 24
    train = SOURCES[dataset].train
    (problem,) = (p for p in pool.train if p.prompt.endswith(f"What is the number 7 of {train}?"))
    choices = tuple(choice.replace(train, "train") for choice in problem.choices)
    assert (problem.answer, problem.label, choices, problem.meta) == SEVENTH[dataset]
    assert problem.task == SOURCES[dataset].task
    assert problem.id.startswith(f"{dataset}-")
    assert len({p.id for p in [*pool.train, *(pool.test or [])]}) == len(pool.train) + len(pool.test or [])


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "arrow"])
def test_a_single_file_is_a_train_split(tmp_path, hub, suffix):
    rows = hub.tables("medqa")["train"]
    file = tmp_path / f"some.{suffix}"
    if suffix == "arrow":
        rows.save_to_disk(tmp_path / "saved")
        (tmp_path / "saved" / "data-00000-of-00001.arrow").rename(file)
    else:
        (rows.to_parquet if suffix == "parquet" else rows.to_json)(file)
    pool = read("medqa", file)
    assert len(pool.train) == 24
    assert pool.test is None


def test_all_configurations_of_math_are_read_and_one_of_gsm8k(tmp_path, hub):
    def some(dataset: str, config: str) -> dict[str, Dataset]:
        column = "problem" if dataset == "math" else "question"
        rows = [
            hub.row(dataset, split, n, **{column: f"{config} {split} {n}"})
            for split in ("train", "test")
            for n in (0, 1)
        ]
        return {"train": hub.table(dataset, rows[:2]), "test": hub.table(dataset, rows[2:])}

    def prompts(dataset: str, folder: Path) -> Counter:
        return Counter(problem.prompt.split()[0] for problem in read(dataset, folder).train)

    math = {config: some("math", config) for config in ("algebra", "geometry", "precalculus")}
    assert prompts("math", hub.save_hub(tmp_path / "math", math)) == dict.fromkeys(math, 2)
    for config, splits in math.items():
        DatasetDict(splits).save_to_disk(tmp_path / "saved" / config)
    assert prompts("math", tmp_path / "saved") == dict.fromkeys(math, 2)
    with_default = math | {"": {"train": concatenate_datasets([splits["train"] for splits in math.values()])}}
    assert prompts("math", hub.save_hub(tmp_path / "lighteval", with_default)) == dict.fromkeys(math, 2)
    gsm8k = {config: some("gsm8k", config) for config in ("main", "socratic")}
    for readme in (True, False):
        assert prompts("gsm8k", hub.save_hub(tmp_path / f"gsm8k{readme}", gsm8k, readme)) == {"main": 2}
    message = refusal("gsm8k", hub.save_hub(tmp_path / "other", {"socratic": gsm8k["socratic"], "x": gsm8k["main"]}))
    assert "no configuration main; found socratic, x" in message


def test_hidden_labels_of_medmcqa_are_not_read_and_other_kinds_of_question_are_counted(tmp_path, hub):
    splits = hub.tables("medmcqa", 3)
    more = [hub.row("medmcqa", "train", n, choice_type="multi") for n in (3, 4)]
    splits["train"] = concatenate_datasets([splits["train"], hub.table("medmcqa", more)])
    pool = read("medmcqa", hub.save_hub(tmp_path, {"": splits}))
    assert (len(pool.train), len(pool.test), pool.skipped, pool.refused) == (3, 3, 2, [])
    assert all("validation" in problem.prompt for problem in pool.test)


@pytest.mark.parametrize(
    ("dataset", "changes", "said"),
    [
        ("medmcqa", {"cop": -1}, "column cop: out of range: expected 0 to 3"),
        ("medmcqa", {"opb": "c drug 2 train"}, "field choices: the right option and another are the same"),
        ("medmcqa", {"opb": "c  drug 2\u00a0train "}, "field choices: the right option and another are the same"),
        ("medmcqa", {"opc": None}, "column opc: empty"),
        ("medqa", {"answer_idx": "E"}, "column answer_idx: out of range: expected A to D"),
        ("medqa", {"options": None}, "column options: empty"),
        ("medqa", {"options": {"A": "a", "B": None, "C": "c", "D": "d"}}, "one option for each of the letters"),
        ("medqa", {"answer": "b drug 2 train"}, "column answer: is not the text of the option that column answer_idx"),
        ("medqa", {"question": " "}, "column question: empty"),
        ("math", {"solution": "It is 2."}, "column solution: no \\boxed{} in it"),
        ("math", {"solution": "$\\boxed{2"}, "column solution: its last \\boxed{ is never closed"),
        ("math", {"solution": "$\\boxed{}$"}, "field answer: empty"),
        ("math", {"problem": None}, "column problem: empty"),
        ("math", {"type": None}, "column type: empty"),
        ("gsm8k", {"answer": "It is 2."}, "column answer: no ####"),
        ("gsm8k", {"answer": None}, "column answer: empty"),
        ("gsm8k", {"answer": "#### 1,2"}, "column answer: commas that do not separate thousands"),
        ("gsm8k", {"answer": "#### 12\nWell done!"}, "column answer: more than one line after ####"),
        ("asdiv", {"answer": "2 (cups); 3 (pens)"}, "column answer: several answers, expected one"),
        ("mawps", {"question": "How many are N_00 and N_01?"}, "column question: has placeholders"),
        ("mmlu", {"choices": ["a", "b", "c", " "]}, "column choices: empty"),
        ("mmlu", {"choices": ["a", "b", "c ", "c"]}, "field choices: the right option and another are the same"),
        ("mmlu", {"choices": ["a", "b"]}, "column answer: out of range: expected 0 to 1"),
        ("deepmath", {"topic": None}, "column topic: empty"),
        ("deepmath", {"final_answer": None}, "column final_answer: empty"),
    ],
)
def test_a_row_without_a_usable_gold_is_noted_with_split_and_number(tmp_path, hub, dataset, changes, said):
    rows = [hub.row(dataset, "train", n, **(changes if n == 2 else {})) for n in range(4)]
    hub.table(dataset, rows).to_parquet(tmp_path / "rows.parquet")
    pool = read(dataset, tmp_path / "rows.parquet")
    assert len(pool.train) == 3
    ((place, reason),) = pool.refused
    assert place == "rows.parquet, row 2"
    assert said in reason
    assert "What is" not in reason


@pytest.mark.parametrize(
    ("dataset", "two", "one"),
    [
        ("math", {"solution": "$\\boxed{2}$ or $\\boxed{-2}$"}, {"solution": "$\\boxed{\\frac12}$, so $\\boxed{0.5}$"}),
        (
            "math",
            {"solution": "$x=\\boxed{7}$ and $y = \\boxed{7}$"},
            {"solution": "$\\boxed{7}$. And so $y$ and $x$ are not needed, and it is $\\boxed{7}$"},
        ),
        ("gsm8k", {"answer": "#### 12\n#### 13"}, {"answer": "#### 12\n#### 12.0"}),
    ],
)
def test_a_row_with_two_final_answers_is_left_out_and_named(tmp_path, hub, dataset, two, one):
    rows = [hub.row(dataset, "train", n, **changes) for n, changes in enumerate(({}, two, one))]
    hub.table(dataset, rows).to_parquet(tmp_path / "rows.parquet")
    pool = read(dataset, tmp_path / "rows.parquet")
    assert len(pool.train) == 2
    assert (pool.two_answers, pool.refused) == (["rows.parquet, row 1"], [])


@pytest.mark.parametrize("order", [1, -1])
def test_a_repeat_of_a_question_with_two_answers_is_not_kept_with_one_of_them(tmp_path, hub, order):
    """Its solution has only the last one."""
    one = hub.row("math", "train", 1, solution="$\\boxed{-2}$")
    two = one | {"solution": "$\\boxed{2}$ or $\\boxed{-2}$"}
    other = hub.row("math", "train", 2)
    hub.table("math", [one, two, other][::order]).to_parquet(tmp_path / "rows.parquet")
    pool = read("math", tmp_path / "rows.parquet")
    assert [problem.prompt for problem in pool.train] == [other["problem"]]
    assert len(pool.two_answers) == 2


def test_nothing_of_local_files_stays_in_the_librarys_cache(tmp_path, hub, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    read("gsm8k", hub.save("gsm8k", tmp_path / "data", "hub"))
    assert not list(tmp_path.glob("cache/**/*.arrow"))


GOOD = [Problem(f"p{n}", f"how many {n}?", str(n), task="math") for n in range(4)]


def test_our_own_files_are_read_as_they_are(tmp_path):
    write_problems(tmp_path / "train.jsonl", GOOD)
    for source in (tmp_path, tmp_path / "train.jsonl"):
        pool = read_jsonl(str(source), task_named("math"), True)
        assert (pool.train, pool.test, pool.refused) == (GOOD, None, [])
    write_problems(tmp_path / "test.jsonl", GOOD[:1])
    assert read_jsonl(str(tmp_path), task_named("math"), True).test == GOOD[:1]
    assert read_jsonl(str(tmp_path), task_named("math"), False).test is None


def test_a_line_that_is_no_problem_stops_and_a_bad_gold_is_noted(tmp_path):
    file = tmp_path / "own.jsonl"
    write_problems(file, [*GOOD, Problem("c", "which?", "A", choices=("a", "b"), task="math")])
    pool = read_jsonl(str(file), task_named("math"), True)
    assert pool.train == GOOD
    ((place, reason),) = pool.refused
    assert (place, reason[:14]) == (f"{file}, line 5", "field choices:")
    file.write_text('{"id": "a", "prompt": "how many?"}\n')
    with pytest.raises(ProblemFileError, match=r"own\.jsonl, line 1, field answer: missing"):
        read_jsonl(str(file), task_named("math"), True)
    file.write_text("\n")
    with pytest.raises(ProblemFileError, match=r"own\.jsonl: holds no problem"):
        read_jsonl(str(file), task_named("math"), True)
    with pytest.raises(SourceError, match=r"no such file; expected a problem file"):
        read_jsonl(str(tmp_path), task_named("math"), True)
