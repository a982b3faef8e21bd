"""Small data sets in the hub's exact schemas, saved as the hub, `save_to_disk` and plain files have them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

TEXT = Value("string")
OPTION = dict.fromkeys("ABCD", TEXT)
FEATURES = {
    "math": Features(problem=TEXT, level=TEXT, type=TEXT, solution=TEXT),
    "deepmath": Features(
        question=TEXT,
        final_answer=TEXT,
        difficulty=Value("float64"),
        topic=TEXT,
        r1_solution_1=TEXT,
        r1_solution_2=TEXT,
        r1_solution_3=TEXT,
    ),
    "gsm8k": Features(question=TEXT, answer=TEXT),
    "svamp": Features(Body=TEXT, Question=TEXT, Equation=TEXT, Answer=TEXT, Type=TEXT),
    "asdiv": Features(body=TEXT, question=TEXT, solution_type=TEXT, answer=TEXT, formula=TEXT),
    "mawps": Features(id=TEXT, question=TEXT, chain=TEXT, result=TEXT, result_float=Value("float64")),
    "mmlu": Features(question=TEXT, subject=TEXT, choices=List(TEXT), answer=ClassLabel(names=["A", "B", "C", "D"])),
    "medqa": Features(
        question=TEXT, answer=TEXT, options=OPTION, meta_info=TEXT, answer_idx=TEXT, metamap_phrases=List(TEXT)
    ),
    "medmcqa": Features(
        id=TEXT,
        question=TEXT,
        opa=TEXT,
        opb=TEXT,
        opc=TEXT,
        opd=TEXT,
        cop=ClassLabel(names=["a", "b", "c", "d"]),
        choice_type=TEXT,
        exp=TEXT,
        subject_name=TEXT,
        topic_name=TEXT,
    ),
}
SPLITS = {  # data set -> splits that the hub has
    "math": ("train", "test"),
    "deepmath": ("train",),
    "gsm8k": ("train", "test"),
    "svamp": ("train", "test"),
    "asdiv": ("validation",),
    "mawps": ("train", "test"),
    "medqa": ("train", "test"),
    "medmcqa": ("train", "validation", "test"),
    "mmlu": ("auxiliary_train", "test"),
}
TYPES = ("Algebra", "Geometry", "Number Theory")
SUBJECTS = ("Anatomy", "Surgery", "Pharmacology")


def row(dataset: str, split: str, number: int, **changes) -> dict:
    """A row whose question no other has: its answer is `number`, or the option at `number` modulo 4."""
    rows = worked(split, number) | chosen(split, number)
    return rows[dataset] | changes


def worked(split: str, number: int) -> dict[str, dict]:
    """A row of each data set that has no options."""
    kind, text = number % 3, question(split, number)
    return {
        "math": {
            "problem": text,
            "level": "Level 3",
            "type": TYPES[kind],
            "solution": f"It is $\\boxed{{{number}}}$.",
        },
        "deepmath": {
            "question": text,
            "final_answer": str(number),
            "difficulty": 4.5,
            "topic": f"Mathematics -> {TYPES[kind]} -> Lines",
            **{f"r1_solution_{k}": "<think>long</think>" for k in (1, 2, 3)},
        },
        "gsm8k": {"question": text, "answer": f"Count <<1+1=2>>.\n#### 1,{number:03d}"},
        "svamp": {
            "Body": f"There are {number} pens in {split}",
            "Question": text,
            "Equation": f"( {number}.0 + 0.0 )",
            "Answer": f"{number}.0",
            "Type": ("Addition", "Subtraction", "Division")[kind],
        },
        "asdiv": {
            "body": f"There are {number} pens in {split}.",
            "question": text,
            "solution_type": ("Addition", "Sum", "Ratio")[kind],
            "answer": f"{number} (pens)",
            "formula": f"{number}+0={number}",
        },
        "mawps": {
            "id": f"mawps__{number}",
            "question": text,
            "chain": "<result>1</result>",
            "result": str(number),
            "result_float": float(number),
        },
    }


def chosen(split: str, number: int) -> dict[str, dict]:
    """A row of each data set that has options."""
    kind, letter, text = number % 3, "ABCD"[number % 4], question(split, number)
    options = {name: f"{name.lower()} drug {number} {split}" for name in "ABCD"}
    return {
        "mmlu": {
            "question": text,
            "subject": ("anatomy", "virology", "nutrition")[kind],
            "choices": [*options.values()],
            "answer": number % 4,
        },
        "medqa": {
            "question": text,
            "answer": options[letter],
            "options": options,
            "meta_info": "step1" if kind else "step2&3",
            "answer_idx": letter,
            "metamap_phrases": ["number"],
        },
        "medmcqa": {
            "id": f"{split}-{number}",
            "question": text,
            **{f"op{name.lower()}": option for name, option in options.items()},
            "cop": -1 if split == "test" else number % 4,
            "choice_type": "single",
            "exp": "Because.",
            "subject_name": SUBJECTS[kind],
            "topic_name": None,
        },
    }


def question(split: str, number: int) -> str:
    return f"What is the number {number} of {split}?"


def table(dataset: str, rows: list[dict]) -> Dataset:
    return Dataset.from_list(rows, features=FEATURES[dataset])


def tables(dataset: str, count: int = 24) -> dict[str, Dataset]:
    return {split: table(dataset, [row(dataset, split, n) for n in range(count)]) for split in SPLITS[dataset]}


def save_hub(folder: Path, configs: dict[str, dict[str, Dataset]], readme: bool = True) -> Path:
    """Parquet files by configuration ("" = at the top, with no name), with a README.md that lists them."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config or 'default'}", "  data_files:"]
        for split, rows in splits.items():
            file = folder / config / f"{split}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows.to_parquet(file)
            lines += [f"  - split: {split}", f"    path: {file.relative_to(folder).as_posix()}"]
    if readme:
        (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def save(dataset: str, folder: Path, how: str, count: int = 24) -> Path:
    """Save the whole data set in one of the ways in which it may be on a disk."""
    splits = tables(dataset, count)
    config = {"gsm8k": "main", "math": "algebra", "mmlu": "all"}.get(dataset, "")
    if how in ("hub", "bare"):
        return save_hub(folder, {config: splits}, readme=how == "hub")
    if how == "saved":
        DatasetDict(splits).save_to_disk(folder)
        return folder
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        rows.to_json(folder / f"{split}.{how}")
    return folder


@pytest.fixture(scope="session")
def hub() -> SimpleNamespace:
    return SimpleNamespace(row=row, table=table, tables=tables, save=save, save_hub=save_hub)
