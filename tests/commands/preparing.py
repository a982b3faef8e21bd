"""What the tests of `fedrlvr prepare` have in common: files to prepare, and the command."""

from pathlib import Path

from datasets import Dataset

from fedrlvr.cli import main
from fedrlvr.data.problems import write_problems
from fedrlvr.types import Problem

TYPES = ("Algebra", "Geometry", "Number Theory")
NAMES = ("figs", "nuts", "pens", "cups", "hats")


def save_math(folder: Path, train: int = 60, test: int = 12, **changes) -> Path:
    """The MATH data set's schema in files that the library recognises; `changes` are of train's row 5."""
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("test", test)):
        rows = [
            {
                "problem": f"How many {NAMES[n % 5]} are {n} of {split}?",
                "level": "Level 1",
                "type": TYPES[n % 3],
                "solution": f"So $\\boxed{{{n}}}$.",
            }
            | (changes if (split, n) == ("train", 5) else {})
            for n in range(count)
        ]
        Dataset.from_list(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def prepare(source: Path | str, out: Path, *more: str, dataset: str = "math", sizes: bool = True) -> int:
    arguments = ["prepare", "--dataset", dataset, "--source", str(source), "--out", str(out)]
    return main([*arguments, *(("--public", "6", "--test", "8") if sizes else ()), *more])


def refusal(capsys, *arguments, **more) -> str:
    """The one message on standard error; nothing is left where the folder would have been."""
    out = arguments[1]
    before = out.exists()
    assert prepare(*arguments, **more) == 2
    assert out.exists() == before
    assert not list(out.parent.glob(f".{out.name}*"))
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("error: ") == 1
    return said[said.index("error: ") :]


def own_problems(path: Path, count: int = 20, **changes) -> Path:
    write_problems(path, [Problem(f"own-{n}", f"ward question {n}?", str(n), "x", **changes) for n in range(count)])
    return path
