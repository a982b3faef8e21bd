"""The command line of a comparison: run the cells that are missing, then write results, figures and the page."""

import argparse
import os
from pathlib import Path

from fedrlvr.comparison.plan import Cell, Plan, Run, cells_of, run_of
from fedrlvr.comparison.runner import find_records, run_cells
from fedrlvr.printable import print_error
from fedrlvr.settings_file import SettingsError, load_settings


def arguments(description: str, plan: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--plan", type=Path, default=plan, help="what to compare (default: %(default)s)")
    add("--studies", nargs="+", metavar="NAME", help="default: all of the plan, but those with a real model")
    add("--seeds", type=seeds, metavar="10-14", help="default: what the plan says")
    add("--quick", action="store_true", help="a few variants, three seeds, one base model")
    add("--processes", type=positive, default=os.cpu_count(), help="runs at once, a core each (default: %(default)s)")
    add("--workspace", type=Path, default=Path("workspace/compare"), help="where runs go (default: %(default)s)")
    add("--any-source", action="store_true", help="take records that other versions of the code have left")
    add("--publish", action="store_true", help="write results, figures and tables into the pages here")
    add("--data", type=Path, metavar="DIR", help="problems of the studies with a real model")
    add("--model", type=Path, metavar="DIR", help="the real model")
    return parser.parse_args()


def seeds(text: str) -> tuple[int, ...]:
    """`10-14`, `10,12` or `10`. Raises ValueError, which argparse tells."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        found += range(int(first), int(last) + 1) if dash else [int(first)]
    if not found:
        raise ValueError(text)
    return tuple(dict.fromkeys(found))


def positive(text: str) -> int:
    """Raises ValueError, which argparse tells."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def run(args: argparse.Namespace) -> int:
    """Returns 2 for bad input, 1 where a run failed, 130 for an interruption, else 0."""
    try:
        if args.publish and (args.quick or args.seeds):
            raise SettingsError("--publish: pages show whole studies; leave --quick and --seeds out")
        plan = load_settings(Plan, args.plan)
        if args.publish:
            from fedrlvr.comparison.results import check_pages

            check_pages(args.plan.resolve().parent)  # before anything is run
        cells = cells_of(plan, _studies(plan, args), args.seeds, args.quick)
        runs = {cell: run_of(plan, cell, args.data, args.model) for cell in cells}
        return _compare(plan, runs, args)
    except (ValueError, OSError) as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        print_error("interrupted; what is done is kept, and the same command goes on")
        return 130


def _studies(plan: Plan, args: argparse.Namespace) -> list[str]:
    real = args.data is not None and args.model is not None
    names = args.studies or [name for name, study in plan.studies.items() if not study.real_model]
    for name in names:
        if name not in plan.studies:
            raise SettingsError(f"--studies {name}: there are {', '.join(plan.studies)}")
        if plan.studies[name].real_model and not real:
            raise SettingsError(f"--studies {name}: it needs --data and --model; its page says which")
    return names


def _compare(plan: Plan, runs: dict[Cell, Run], args: argparse.Namespace) -> int:
    done = find_records(args.workspace, runs, args.any_source)
    missing: dict[str, Cell] = {}
    for cell, run in runs.items():
        if cell not in done:
            missing.setdefault(run.settings, cell)
    print(f"{len(runs)} runs, {len(done)} are done, {len(missing)} to do")
    failed = []
    if missing:
        first = {cell: runs[cell] for cell in missing.values()}
        failed = run_cells(first, args.workspace.resolve(), args.processes, lambda text: print(text, flush=True))
    for line in failed:
        print_error(f"failed: {line}")
    wrong = _report(plan, find_records(args.workspace, runs, args.any_source), args)
    for line in wrong:
        print_error(line)
    return 1 if failed or wrong else 0


def _report(plan: Plan, records: dict[Cell, dict], args: argparse.Namespace) -> list[str]:
    """Write results, figures and page into the workspace, and print the tables. Returns what is wrong with them; then
    nothing is published."""
    from fedrlvr.comparison.page import page
    from fedrlvr.comparison.results import draw, publish, read_results, write_results
    from fedrlvr.comparison.statistics import UnequalWork, check_equal_work
    from fedrlvr.comparison.tables import study_table

    folder, by_study, wrong = args.workspace / "results", {}, []
    for cell, record in records.items():
        by_study.setdefault(cell.study, []).append(record)
    write_results(folder, by_study)
    results = {name: found for name, found in read_results(folder, plan).items() if name in by_study}
    for name, variants in results.items():
        print(f"\n{plan.studies[name].title}\n{study_table(plan.studies[name], variants).markdown()}")
        try:
            if plan.studies[name].equal_work:
                check_equal_work(variants)
        except UnequalWork as error:
            wrong.append(f"{name}: the variants did not do equal work: {error}")
    draw(plan, results, folder, args.workspace / "figures")
    path = args.workspace / "comparison.html"
    path.write_text(page(plan, results, args.workspace / "figures"), encoding="utf-8")
    print(f"\n{path}")
    if args.publish and not wrong:
        publish(plan, by_study, args.plan.resolve().parent)
    return wrong
