"""`fedrlvr prepare`: turn a data set into a public set, a test set and a file for each site, with a manifest."""

import argparse
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from rich.markup import escape
from rich.progress import track

from fedrlvr import __version__
from fedrlvr.data.manifest import MANIFEST, SHARED_SETS, Manifest, SetManifest, check_manifest, read_manifest
from fedrlvr.data.own_tables import FORM, Columns, columns_of, names_in, own_source
from fedrlvr.data.partition import Partition, PreparationError
from fedrlvr.data.preparation import Plan, Prepared, prepare_sets
from fedrlvr.data.problems import task_in, write_problems
from fedrlvr.data.sources import SOURCES, Pool, jsonl_files, read_jsonl, read_source
from fedrlvr.data.table import SourceError
from fedrlvr.report.screen import Screen
from fedrlvr.sealed_folder import check_free, new_folder
from fedrlvr.settings_file import validate_settings
from fedrlvr.shipped import dry_run_presets
from fedrlvr.tasks import Task, known_tasks, own_package, task_named
from fedrlvr.version import source_hash

OURS, TABLE = "jsonl", "table"  # kinds of files of the user's own
SETS = """\
the sets:
  public   Every site has it. Sites exchange right answers to it and train on them, so there must be nothing private
           in it. Take problems of all types that any site has: 16 or more (in the demo 8 were too few, and 16 did as
           well as 32), and more where there are many types.
  test     Every site has it, and is measured on it. It teaches nothing. Its size says how sure a result is: pass@1
           of 100 problems is known to about 0.10, of 400 to 0.05, of 1,000 to 0.03 (95% interval).
  private  What is left, divided among the sites. With --heldout, each keeps some of its own to be measured on.
With --shared, public and test set are those that others agreed on, and all problems of the source are private."""
SHOWN = 5  # places that are listed for each reason


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, SETS
    add = parser.add_argument
    add("--dataset", required=True, choices=(*SOURCES, OURS, TABLE), help="jsonl: our format; table: see --columns")
    add("--source", help="a directory, a file or a hub id; default: the data set's own hub id")
    add("--columns", metavar="ROLE=NAME,...", help=f"what is where in a table of your own: {FORM}")
    known = ", ".join(known_tasks())
    what = f"for problems of your own, one of {known}; default: what the file or the manifest of --shared says"
    add("--task", help=what)
    add("--sites", type=int, required=True, metavar="K", help="among how many the private problems are divided")
    how = "whole labels to each site, unequal shares of them (see --alpha), or all at random; default: iid"
    add("--partition", choices=get_args(Partition), default="iid", help=how)
    add("--alpha", type=float, metavar="A", help="for dirichlet; the smaller, the more unequal")
    add("--public", type=int, metavar="N", help="problems that all sites share, and exchange answers to")
    add("--test", type=int, metavar="N", help="problems that all sites are measured on, and nobody trains on")
    add("--heldout", type=int, default=0, metavar="N", help="problems of each site not to train on; default: none")
    add("--seed", type=int, default=0, help="another one draws other problems for each set; default: 0")
    add("--overlap", type=float, default=0.5, help="share of 8-word sequences that makes a duplicate; default: 0.5")
    add("--allow-bad-golds", action="store_true", help="leave out rows that cannot be used")
    add("--first-option", type=int, choices=(0, 1), help="its number in the data, where they do not show it")
    add("--shared", type=Path, metavar="DIR", help="use public and test set of an earlier prepare, and its task")
    add("--out", type=Path, required=True, metavar="DIR", help="the new folder for the sets; it may be there if empty")


def run(arguments: argparse.Namespace) -> int:
    given = vars(arguments) | {"shared": arguments.shared is not None}
    plan = validate_settings(Plan, {name: given[name] for name in Plan.model_fields}, "prepare")
    columns = _columns(arguments)
    _check_first_option(arguments, columns)
    check_free(arguments.out)
    task = task_named(_task_name(arguments, columns))
    shared = _shared(arguments.shared, task) if arguments.shared else None
    pool = _read(arguments, task, columns)
    if pool.refused and not arguments.allow_bad_golds:
        raise PreparationError(_refusal(pool.refused))
    made = prepare_sets(pool, plan, shared)
    with new_folder(arguments.out) as folder:
        _write(folder, arguments, made, task, pool)
    _print(made, pool, arguments, task, Screen())
    return 0


def _columns(arguments: argparse.Namespace) -> Columns | None:
    """Those of a table of the user's own. Raises SourceError, which names the columns there are if none were named."""
    if arguments.dataset != TABLE:
        if arguments.columns is not None:
            raise SourceError(f"--columns: is for --dataset {TABLE}; {arguments.dataset} has columns of known names")
        return None
    if not arguments.source:
        raise SourceError(f"--source: --dataset {TABLE} needs a file or a folder: CSV, parquet, arrow or JSON")
    if arguments.columns is None:
        raise SourceError(f"--columns: say what is where: {FORM}; {arguments.source} has {names_in(arguments.source)}")
    return columns_of(arguments.columns)


def _check_first_option(arguments: argparse.Namespace, columns: Columns | None) -> None:
    known = SOURCES.get(arguments.dataset)
    numbered = "choices" in columns if columns else known is not None and known.task == "choice"
    if arguments.first_option is not None and not numbered:
        raise PreparationError(f"--first-option: {arguments.dataset} has no numbers of options; leave it out")


def _task_name(arguments: argparse.Namespace, columns: Columns | None) -> str:
    """What the data set or its first problem says, else `--task`, else the manifest of the shared sets."""
    if arguments.dataset in SOURCES:
        known = SOURCES[arguments.dataset].task
        if arguments.task not in (None, known):
            raise PreparationError(f"--task: {arguments.dataset} is for task {known}; leave --task out")
        return known
    if arguments.dataset == OURS and not arguments.source:
        raise PreparationError("--source: --dataset jsonl needs a problem file, or a directory with train.jsonl")
    named = task_in(jsonl_files(arguments.source)["train"]) if columns is None else None
    if named and arguments.task not in (None, named):
        raise PreparationError(f"--task: the problems are for task {named}; leave --task out")
    if name := named or arguments.task:
        return name
    if arguments.shared:
        return read_manifest(arguments.shared).task
    if columns is None:
        raise PreparationError(f"{arguments.source}: its first problem names no task; say which with --task")
    raise PreparationError(f"--task: a table names no task; say which: {', '.join(known_tasks())}")


def _shared(folder: Path, task: Task) -> dict:
    named = read_manifest(folder).task
    if named != task.name:
        raise PreparationError(f"{folder}: its sets are for task {named}, these problems for {task.name}")
    return check_manifest(folder)


def _read(arguments: argparse.Namespace, task: Task, columns: Columns | None) -> Pool:
    import datasets  # takes a second

    console = Screen(stderr=True)
    datasets.disable_progress_bars()  # the library would show one for every split of every file

    def watch(rows: Sequence, what: str):
        what = escape(f"reading {what}")  # here rich reads markup, whatever the console says
        return track(rows, what, console=console, transient=True, disable=not console.is_terminal)

    with_test = arguments.shared is None
    if arguments.dataset == OURS:
        return read_jsonl(arguments.source, task, with_test, watch)
    known = own_source(columns, task.name) if columns else SOURCES[arguments.dataset]
    return read_source(arguments.dataset, _source(arguments), task, with_test, watch, arguments.first_option, known)


def _source(arguments: argparse.Namespace) -> str:
    return arguments.source or SOURCES[arguments.dataset].hub_id


def _refusal(refused: list[tuple[str, str]]) -> str:
    lines = [f"rows that cannot be used: {len(refused)}", *_by_reason(refused)]
    return "\n  ".join([*lines, "nothing was written; --allow-bad-golds leaves them out"])


def _by_reason(refused: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each reason, the most frequent first, with the first places."""
    places = defaultdict(list)
    for where, reason in refused:
        places[reason].append(where)
    ordered = sorted(places.items(), key=lambda item: -len(item[1]))
    return [f"{len(there):,}: {reason} ({_listed(there)})" for reason, there in ordered]


def _listed(places: Sequence[str]) -> str:
    more = f"; and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
    return "; ".join(places[:SHOWN]) + more


def _write(folder: Path, arguments: argparse.Namespace, made: Prepared, task: Task, pool: Pool) -> None:
    for name, problems in made.files().items():
        write_problems(folder / f"{name}.jsonl", problems)
    if arguments.shared:  # the very same files
        for name in (*(f"{name}.jsonl" for name in SHARED_SETS), MANIFEST):
            shutil.copyfile(arguments.shared / name, folder / name)
    else:
        _write_json(folder / MANIFEST, _manifest(arguments, made, task, pool).model_dump())
    from fedrlvr.report.partition import draw_partition  # loads matplotlib

    draw_partition(*_sizes(made), _title(arguments), folder / "partition.png")
    _write_json(folder / "report.json", _report(arguments, made, pool))


def _title(arguments: argparse.Namespace) -> str:
    rule = arguments.partition + (f" ({arguments.alpha:g})" if arguments.alpha else "")
    sites = "one site" if arguments.sites == 1 else f"{arguments.sites} sites"
    return f"{arguments.dataset}: {sites}, partition {rule}, seed {arguments.seed}"


def _report(arguments: argparse.Namespace, made: Prepared, pool: Pool) -> dict:
    """Details for the owner of the data. They name problems by id, so they stay here."""
    return {
        "dataset": arguments.dataset,
        "arguments": {name: getattr(arguments, name) for name in Plan.model_fields if name != "shared"},
        "counts": made.counts(),
        "labels": {name: dict(labels) for name, labels in _sizes(made)[0].items()},
        "removed": dict(made.removed),
        "duplicates": [{"id": name, "set": m.set_name, "of": m.id, "share": m.share} for name, m in made.matches],
        "refused": [f"{where}, {reason}" for where, reason in pool.refused],
        "conflicts": made.conflicts,
        "two_answers": pool.two_answers,
        "notes": pool.notes,
    }


def _manifest(arguments: argparse.Namespace, made: Prepared, task: Task, pool: Pool) -> Manifest:
    """The manifest goes to every site, so it does not contain a path of this machine."""
    source = _source(arguments)
    versions = {"fedrlvr": __version__, "code": source_hash(), "datasets": version("datasets")}
    if package := own_package(task):
        versions["task"] = str(package)
    return Manifest(
        dataset=arguments.dataset,
        source=Path(source).name if Path(source).exists() else source,
        task=task.name,
        seed=arguments.seed,
        public=SetManifest.of(made.public),
        test=SetManifest.of(made.test),
        counts=made.counts(),
        removed=dict(made.removed),
        versions=versions | ({"source": pool.revision} if pool.revision else {}),
    )


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sizes(made: Prepared) -> tuple[dict[str, Counter], dict[str, int]]:
    """For the table and the picture: counts by label of the private and shared sets, and the held-out sizes."""
    from fedrlvr.report.partition import label_counts

    counts = label_counts(made.private | {"public": made.public, "test": made.test})
    return counts, {site: len(problems) for site, problems in made.heldout.items()}


def _print(made: Prepared, pool: Pool, arguments: argparse.Namespace, task: Task, console: Screen) -> None:
    from fedrlvr.report.partition import print_partition

    print_partition(*_sizes(made), console)
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in sorted(made.removed.items()))
    lines = [f"left out: {reasons or 'nothing'}", *(f"  {line}" for line in _by_reason(pool.refused))]
    if pool.two_answers:
        lines.append(f"  two final answers, or one in several boxes: {_listed(pool.two_answers)}")
    if made.conflicts:
        lines.append(f"  the same question with other answers: {_listed([' and '.join(q) for q in made.conflicts])}")
    console.print("\n".join([*lines, *(f"note: {note}" for note in pool.notes)]), soft_wrap=True)
    if pool.test is None and not arguments.shared:
        console.print("test: taken from train, as there is no test split")
    for line in _lacking(made, pool, arguments):
        console.print(f"WARNING: {line}", style="bold yellow", soft_wrap=True)
    site, preset = next(iter(made.private)), next(iter(dry_run_presets(task.name)), "PRESET")
    console.print(
        f"next: `fedrlvr run {preset} --tiny --data {arguments.out}` is a dry run with all sites here; "
        "with --model MODEL and without --tiny it is the run",
        soft_wrap=True,
    )
    console.print(
        f"next, at real sites: give each its own file ({arguments.out}/{site}.jsonl is {site}'s) with public.jsonl, "
        f"test.jsonl and {MANIFEST}, name them in its local/fedrlvr.yaml, and run `fedrlvr doctor` there",
        soft_wrap=True,
    )


def _lacking(made: Prepared, pool: Pool, arguments: argparse.Namespace) -> list[str]:
    """One line for each shared set that lacks labels which sites have."""
    costs = {"public": "sites exchange no answers to such problems", "test": "no site is measured on such problems"}
    lines = []
    for name, labels in made.lacking().items():
        remedy = f"take more problems with --{name}, or another --seed"
        if arguments.shared:
            remedy = f"tell who made {arguments.shared}"
        elif name == "test" and pool.test is not None and not {problem.label for problem in pool.test} & {*labels}:
            remedy = "the test split of the source has none"
        listed = ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
        lines.append(f"the {name} set has no problem labelled {listed}, as sites have: {costs[name]}; {remedy}")
    return lines
