"""The data sets that `fedrlvr prepare` knows: where they are, their layout, and their rows as checked problems."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fedrlvr.data import rows
from fedrlvr.data.cells import ANSWER, INTEGER, LABEL, NUMBER, OPTION, OPTIONS, TEXT, TEXTS
from fedrlvr.data.options import check_text, first_number, right_letter
from fedrlvr.data.problems import ProblemFileError, check_gold, parse_problem, problems_in, same_answer
from fedrlvr.data.table import SourceError, Table, cells
from fedrlvr.tasks import Task
from fedrlvr.types import Problem

Watch = Callable[[Sequence, str], Iterable]  # yields the rows and shows the progress


@dataclass(frozen=True)
class Layout:
    """The columns of a data set with their kinds: `columns` must exist, `optional` ones may. `record` makes a problem's
    record from a row. `answer` is the column with the final answer, or the letter or number of the right option."""

    record: Callable[[dict], dict]
    answer: str
    columns: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where a data set is, and its layouts: that of the hub first, then others under which it is around.

    `configs` are the configurations to load, () = all. `test` is the split for the test set; "" = none, so that the
    test set is taken from `train`.
    """

    hub_id: str
    task: str
    layouts: tuple[Layout, ...]
    configs: tuple[str, ...] = ()
    train: str = "train"
    test: str = "test"

    @property
    def columns(self) -> set[str]:
        return {name for layout in self.layouts for name in (*layout.columns, *layout.optional)}

    def layout_of(self, table: Table) -> Layout:
        """The layout of which this table has the most columns; of several, the first."""
        return max(self.layouts, key=lambda layout: len(set(layout.columns) & set(table.columns)))


MATH = Layout(rows.math, "solution", {"problem": TEXT, "level": LABEL, "type": TEXT, "solution": TEXT})
DEEPMATH = Layout(
    rows.deepmath, "final_answer", {"question": TEXT, "final_answer": ANSWER, "difficulty": NUMBER, "topic": TEXT}
)
GSM8K = Layout(rows.gsm8k, "answer", {"question": TEXT, "answer": TEXT})
SVAMP = Layout(rows.svamp, "Answer", {"Body": TEXT, "Question": TEXT, "Answer": ANSWER}, {"Type": LABEL})
ASDIV = Layout(rows.asdiv, "answer", {"body": TEXT, "question": TEXT, "answer": ANSWER}, {"solution_type": LABEL})
MAWPS_NAMES = (("question", "result"), ("sQuestion", "lSolutions"), ("original_text", "ans"), ("Question", "Answer"))
MAWPS = tuple(
    Layout(rows.mawps(*names), names[1], dict(zip(names, (TEXT, ANSWER), strict=True))) for names in MAWPS_NAMES
)
MEDQA = Layout(
    rows.medqa,
    "answer_idx",
    {"question": TEXT, "options": OPTIONS, "answer_idx": OPTION},
    {"answer": ANSWER, "meta_info": LABEL},
)
MEDMCQA = Layout(
    rows.medmcqa,
    "cop",
    {"question": TEXT, **dict.fromkeys(("opa", "opb", "opc", "opd"), ANSWER), "cop": INTEGER, "subject_name": LABEL},
    {"choice_type": LABEL},
)
MMLU = Layout(rows.mmlu, "answer", {"question": TEXT, "choices": TEXTS, "answer": OPTION}, {"subject": LABEL})

SOURCES = {
    "math": Source("EleutherAI/hendrycks_math", "math", (MATH,)),
    "deepmath": Source("zwhe99/DeepMath-103K", "math", (DEEPMATH,), test=""),
    "gsm8k": Source("openai/gsm8k", "math", (GSM8K,), configs=("main",)),
    "svamp": Source("ChilleD/SVAMP", "math", (SVAMP,)),
    "asdiv": Source("EleutherAI/asdiv", "math", (ASDIV,), train="validation", test=""),
    "mawps": Source("MU-NLPC/Calc-mawps", "math", MAWPS),
    "medqa": Source("GBaker/MedQA-USMLE-4-options", "choice", (MEDQA,)),
    # The labels of its test split are hidden.
    "medmcqa": Source("openlifescienceai/medmcqa", "choice", (MEDMCQA,), test="validation"),
    "mmlu": Source("cais/mmlu", "choice", (MMLU,), configs=("all",), train="auxiliary_train"),
}


@dataclass
class Pool:
    """A data set's problems as read; `test` is None if it has no test split.

    `refused` has (place, reason) of each row that cannot be used. `skipped` counts rows that are left out by design,
    `two_answers` has the places of those with two final answers, and of repeats of their questions.
    `places` says where each problem was found first, `notes` what the owner should know. `same_answer` says whether the
    answer of a problem and another text are equal. `revision` is the hub's commit, "" for local files.
    """

    train: list[Problem] = field(default_factory=list)
    test: list[Problem] | None = None
    refused: list[tuple[str, str]] = field(default_factory=list)
    skipped: int = 0
    two_answers: list[str] = field(default_factory=list)
    unclear: set[str] = field(default_factory=set)  # ids, which follow from the questions
    own_ids: set[str] = field(default_factory=set)  # those that a table's owner chose
    places: dict[Problem, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    same_answer: Callable[[Problem, str], bool] = lambda problem, other: problem.answer == other
    revision: str = ""

    @contextmanager
    def noting(self, where: str) -> Iterator[None]:
        """Note why the row at `where` cannot be used, if the block raises."""
        try:
            yield
        except rows.RowSkipped:
            self.skipped += 1
        except rows.TwoAnswers:
            self.two_answers.append(where)
        except (rows.RowError, ProblemFileError) as error:
            self.refused.append((where, str(error).removeprefix(f"{where}, ")))

    def add(self, problem: Problem, split: str, where: str) -> None:
        (self.train if split == "train" else self.test).append(problem)
        self.places.setdefault(problem, where)

    def claim_id(self, name: str) -> None:
        """Raises RowError for an id that an earlier row has."""
        if name in self.own_ids:
            raise rows.RowError("id: the same as that of an earlier row; expected another in every row")
        self.own_ids.add(name)

    def drop_unclear(self) -> None:
        """Leave out the problems whose question another row gives two answers to: theirs may be one of the two."""
        for split in filter(None, (self.train, self.test)):
            self.two_answers += [self.places[problem] for problem in split if problem.id in self.unclear]
            split[:] = [problem for problem in split if problem.id not in self.unclear]

    def note_unread(self, files: Sequence[str]) -> None:
        if files:
            self.notes.append(f"not read: {', '.join(files[:5])}{' and others' if files[5:] else ''}")


def read_source(
    dataset: str,
    source: str,
    task: Task,
    with_test: bool,
    watch: Watch = lambda rows, what: rows,
    first: int | None = None,
    known: Source | None = None,
) -> Pool:
    """The problems of one of SOURCES, or of `known`, from a directory, a file or a hub id.

    Without `with_test` the test split is not read. `first` is the number of the first option, where the rows do not
    show it. No copy of local files stays in the cache of the `datasets` library. Raises SourceError and
    ProblemFileError as `load_tables`, `check_columns` and `first_number`, and where there is no train split.
    """
    from fedrlvr.data.tables import Wanted, load_tables  # takes a second to import

    known = known or SOURCES[dataset]
    splits = {known.train, "train", *([known.test] if with_test else [])} - {""}
    with tempfile.TemporaryDirectory(prefix="fedrlvr-") as cache:
        loaded = load_tables(source, Wanted(known.configs, splits, known.columns), cache)
        train = known.train if known.train in loaded.splits else "train"
        if train not in loaded.splits:
            found = ", ".join(sorted(loaded.splits))
            hint = "to train on its rows, name the file itself as the source"
            raise SourceError(f"{source}: no split {train} of {dataset}; found {found}; {hint}")
        pool = Pool(revision=loaded.revision, same_answer=partial(same_answer, task))
        pool.test = [] if with_test and known.test in loaded.splits else None
        for split, name in (("train", train), *([("test", known.test)] if pool.test is not None else [])):
            for table in loaded.splits[name]:
                _read_table(table, dataset, known.layout_of(table), task, pool, split, watch, first)
    pool.note_unread(loaded.unread)
    pool.drop_unclear()
    return pool


def _read_table(
    table: Table, dataset: str, layout: Layout, task: Task, pool: Pool, split: str, watch: Watch, first: int | None
) -> None:
    table.check_columns(dataset, layout.columns, layout.optional)
    records = []
    for number, row in enumerate(watch(table.rows, f"{dataset} {table.name}")):
        with pool.noting(where := table.place(number)):
            records.append((where, layout.record(cells(row, layout.columns, layout.optional))))
    if any("choices" in record for _, record in records):
        first = first_number(records, layout.answer, table, first, pool.notes)
    for where, record in records:
        with pool.noting(where):
            problem = _problem({"id": dataset, "task": task.name} | record, layout, first, where)
            if "id" in record:
                pool.claim_id(problem.id)
            else:
                problem = replace(problem, id=rows.problem_id(dataset, problem))
            check_gold(problem, task, where)
            if not all(pool.same_answer(problem, gold) for gold in record.get("golds", ())):
                pool.unclear.add(problem.id)
                raise rows.TwoAnswers(layout.answer)
            pool.add(problem, split, where)


def _problem(record: dict, layout: Layout, first: int | None, where: str) -> Problem:
    """A record with the letter of the right option, or the last of its golds, as its answer. Raises as
    `parse_problem` and `right_letter`."""
    fields = {name: value for name, value in record.items() if name not in ("golds", "text")}
    if "golds" in record:
        fields["answer"] = record["golds"][-1]
    else:
        fields["answer"] = right_letter(record["answer"], len(record["choices"]), first, layout.answer)
    if "text" in record:
        check_text(record["text"], record["choices"], fields["answer"], layout.answer)
    return parse_problem(fields, where)


def jsonl_files(source: str) -> dict[str, Path]:
    """The files in our own format: "train", and "test" if the source is a directory with one. Raises SourceError."""
    path = Path(source)
    if path.suffix in (".csv", ".parquet", ".arrow"):
        raise SourceError(f"{source}: is no problem file, but perhaps a table: --dataset table --columns")
    files = {name: path / f"{name}.jsonl" for name in ("train", "test")} if path.is_dir() else {"train": path}
    if not files["train"].is_file():
        raise SourceError(f"{files['train']}: no such file; expected a problem file, or a directory with train.jsonl")
    return {name: file for name, file in files.items() if file.is_file()}


def read_jsonl(source: str, task: Task, with_test: bool, watch: Watch = lambda rows, what: rows) -> Pool:
    """The problems of files in our own format, with the ids that the owner chose. Raises SourceError as `jsonl_files`,
    and ProblemFileError as `problems_in`; a gold that fails its verifier is only noted."""
    files = jsonl_files(source)
    wanted = files if with_test else {"train": files["train"]}
    pool = Pool(test=[] if "test" in wanted else None, same_answer=partial(same_answer, task))
    for split, file in wanted.items():
        for where, problem in watch(list(problems_in(file)), file.name):
            with pool.noting(where):
                check_gold(problem, task, where)
                pool.add(problem, split, where)
    others = sorted(set(Path(source).glob("*.jsonl")) - set(wanted.values())) if Path(source).is_dir() else []
    pool.note_unread([file.name for file in others])
    return pool
