"""The data sets that `fedrlvr prepare` knows: where they are, their layout, and their rows as checked problems."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedrlvr.data import rows
from fedrlvr.data.problems import ProblemFileError, check_gold, parse_problem, problems_in
from fedrlvr.data.tables import INTEGER, NUMBER, OPTIONS, TEXT, SourceError, Table, load_tables
from fedrlvr.tasks import Task
from fedrlvr.types import Problem

Watch = Callable[[Sequence, str], Iterable]  # yields the rows and shows the progress


@dataclass(frozen=True)
class Source:
    """The layout of a data set. `record` makes a problem's record from a row, without `id` and `task`.

    `columns` must exist, `optional` ones may, each with its kind. `configs` are the configurations to load, () = all.
    `test` is the split for the test set; "" = none, so that the test set is taken from `train`.
    """

    hub_id: str
    task: str
    record: Callable[[dict], dict]
    columns: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    configs: tuple[str, ...] = ()
    test: str = "test"


SOURCES = {
    "math": Source(
        "EleutherAI/hendrycks_math", "math", rows.math, dict.fromkeys(("problem", "level", "type", "solution"), TEXT)
    ),
    "deepmath": Source(
        "zwhe99/DeepMath-103K",
        "math",
        rows.deepmath,
        {"question": TEXT, "final_answer": TEXT, "difficulty": NUMBER, "topic": TEXT},
        test="",
    ),
    "gsm8k": Source("openai/gsm8k", "math", rows.gsm8k, dict.fromkeys(("question", "answer"), TEXT), configs=("main",)),
    "medqa": Source(
        "GBaker/MedQA-USMLE-4-options",
        "choice",
        rows.medqa,
        {"question": TEXT, "options": OPTIONS, "answer_idx": TEXT},
        optional={"meta_info": TEXT},
    ),
    "medmcqa": Source(
        "openlifescienceai/medmcqa",
        "choice",
        rows.medmcqa,
        dict.fromkeys(("question", "opa", "opb", "opc", "opd", "subject_name"), TEXT) | {"cop": INTEGER},
        optional={"choice_type": TEXT},
        test="validation",  # the labels of its test split are hidden
    ),
}


@dataclass
class Pool:
    """A data set's problems as read; `test` is None if it has no test split.

    `refused` has, for each row that cannot be used, its place and the reason. `skipped` counts rows that are left out
    by design. `revision` is the hub's commit, "" for local files.
    """

    train: list[Problem] = field(default_factory=list)
    test: list[Problem] | None = None
    refused: list[str] = field(default_factory=list)
    skipped: int = 0
    revision: str = ""

    @contextmanager
    def noting(self, where: str) -> Iterator[None]:
        """Note why the row at `where` cannot be used, if the block raises."""
        try:
            yield
        except rows.RowSkipped:
            self.skipped += 1
        except rows.RowError as error:
            self.refused.append(f"{where}, {error}")
        except ProblemFileError as error:
            self.refused.append(str(error))


def read_source(dataset: str, source: str, task: Task, with_test: bool, watch: Watch = lambda rows, what: rows) -> Pool:
    """The problems of one of SOURCES, read by the `datasets` library from a directory, a file or a hub id.

    Without `with_test` the test split is not read. No copy of local files stays in the library's cache. Raises
    SourceError as `load_tables` and `check_columns`, and where there is no train split.
    """
    layout = SOURCES[dataset]
    with tempfile.TemporaryDirectory(prefix="fedrlvr-") as cache:
        tables, revision = load_tables(source, layout.configs, cache)
        if "train" not in tables:
            raise SourceError(f"{source}: no split train of {dataset}; found {', '.join(sorted(tables))}")
        pool = Pool(test=[] if with_test and layout.test in tables else None, revision=revision)
        for table in tables["train"]:
            _read_table(table, dataset, task, pool, pool.train, watch)
        if pool.test is not None:
            for table in tables[layout.test]:
                _read_table(table, dataset, task, pool, pool.test, watch)
    return pool


def _read_table(table: Table, dataset: str, task: Task, pool: Pool, problems: list[Problem], watch: Watch) -> None:
    layout = SOURCES[dataset]
    table.check_columns(dataset, layout.columns, layout.optional)
    columns = [name for name in table.rows.column_names if name in {*layout.columns, *layout.optional}]
    for number, row in enumerate(watch(table.rows.select_columns(columns), f"{dataset} {table.name}")):
        where = f"{table.name}, row {number}"
        with pool.noting(where):
            problem = parse_problem(layout.record(row) | {"id": dataset, "task": layout.task}, where)
            problem = replace(problem, id=rows.problem_id(dataset, problem))
            check_gold(problem, task, where)
            problems.append(problem)


def jsonl_files(source: str) -> dict[str, Path]:
    """The files in our own format: "train", and "test" if the source is a directory with one. Raises SourceError."""
    path = Path(source)
    files = {name: path / f"{name}.jsonl" for name in ("train", "test")} if path.is_dir() else {"train": path}
    if not files["train"].is_file():
        raise SourceError(f"{files['train']}: no such file; expected a problem file, or a directory with train.jsonl")
    return {name: file for name, file in files.items() if file.is_file()}


def read_jsonl(source: str, task: Task, with_test: bool, watch: Watch = lambda rows, what: rows) -> Pool:
    """The problems of files in our own format, with the ids that the owner chose. Raises SourceError as `jsonl_files`,
    and ProblemFileError as `problems_in`; a gold that fails its verifier is only noted."""
    files = jsonl_files(source)
    wanted = files if with_test else {"train": files["train"]}
    pool = Pool(test=[] if "test" in wanted else None)
    for split, file in wanted.items():
        for where, problem in watch(list(problems_in(file)), file.name):
            with pool.noting(where):
                check_gold(problem, task, where)
                getattr(pool, split).append(problem)
    return pool
