"""All cells of a comparison, several at once, each in a process that has one thread. What is done is not done again."""

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from fedrlvr.comparison.plan import Cell, Run
from fedrlvr.printable import one_line
from fedrlvr.processes import die_with
from fedrlvr.version import source_hash

Say = Callable[[str], None]
RUNS_A_PROCESS = 20


def record_path(workspace: Path, cell: Cell) -> Path:
    return workspace / "records" / f"{cell}.json"


def find_records(workspace: Path, cells: Mapping[Cell, Run], any_source: bool = False) -> dict[Cell, dict]:
    """The records of these cells, as far as there are any. A run of the same settings and code serves for every cell
    that asks for it, whichever study it was run for; with `any_source`, one of other code does, too."""
    read = [_read(path) for path in sorted((workspace / "records").glob("*/*.json"))]
    known: dict[str, dict] = {}
    for record in filter(None, read):
        if any_source or record["source"] == source_hash():
            known[record["settings"]] = record
    return {cell: known[run.settings] | vars(cell) for cell, run in cells.items() if run.settings in known}


def _read(path: Path) -> dict | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if {"settings", "source"} <= record.keys() else None
    except (OSError, ValueError, TypeError):
        return None  # it is run again


def run_cells(cells: Mapping[Cell, Run], workspace: Path, processes: int, say: Say) -> list[str]:
    """Run them and write their records. Returns what failed, a line each; the others run all the same."""
    failed, began = [], time.monotonic()
    with _pool(processes) as pool:
        _make_models(pool, list(cells.values()), workspace, say)
    for number, (cell, outcome) in enumerate(_outcomes(cells, workspace, processes), start=1):
        left = (time.monotonic() - began) / number * (len(cells) - number)
        say(f"{number}/{len(cells)}  {cell}: {outcome}  ({left / 60:.0f} min left)")
        if isinstance(outcome, Failed):
            failed.append(f"{cell}: {outcome}")
    return failed


class Failed(str):
    """Why a cell has no record."""


def _outcomes(cells: Mapping[Cell, Run], workspace: Path, processes: int) -> Iterator[tuple[Cell, str]]:
    """Each cell's final pass@1, or why it failed, as soon as it is known."""
    waiting = list(cells.items())
    while waiting:
        # New processes after so many runs: what runs leave behind adds up, and one that was killed is replaced.
        some, waiting = waiting[: RUNS_A_PROCESS * processes], waiting[RUNS_A_PROCESS * processes :]
        with _pool(processes) as pool:
            futures = {pool.submit(_run, cell, run, workspace): cell for cell, run in some}
            try:
                for future in as_completed(futures):
                    yield futures[future], _outcome(future)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _outcome(future: Future) -> str:
    try:
        return f"{future.result()['final']:.2f}"
    except Exception as error:  # whatever it is, it is that of one cell
        return Failed(one_line(f"{type(error).__name__}: {error}"))


def _pool(processes: int) -> ProcessPoolExecutor:
    # A process that has loaded torch must not be forked.
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    die_with(multiprocessing.parent_process().sentinel)
    os.environ["OMP_NUM_THREADS"] = "1"
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    logging.captureWarnings(True)


def _make_models(pool: ProcessPoolExecutor, runs: Sequence[Run], workspace: Path, say: Say) -> None:
    own = (run for run in runs if run.model is None)
    wanted = {(run.experiment.task, run.experiment.base_model.model_dump_json()): run for run in own}
    if wanted:
        say(f"making {len(wanted)} base models, unless they are there")
    for future in [pool.submit(_model, run, workspace) for run in wanted.values()]:
        future.result()


# What a process of the pool does is imported there: it takes seconds, and the command has no use for it.


def _model(run: Run, workspace: Path) -> None:
    from fedrlvr.comparison.cell import make_model

    make_model(run, workspace)


def _run(cell: Cell, run: Run, workspace: Path) -> dict:
    from fedrlvr.comparison.cell import run_cell

    return run_cell(vars(cell), run, workspace, record_path(workspace, cell))
