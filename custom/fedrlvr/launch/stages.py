"""The stages of a run: prepare a new or resumed one, start it where it takes place, follow it to its report."""

import argparse
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fedrlvr.flare.deadlines import Deadlines
from fedrlvr.flare.live_events import read_events
from fedrlvr.flare.trackers import LEFT, check_tracker
from fedrlvr.launch.experiment import load_experiment
from fedrlvr.launch.prepared_run import DRY_RUN, PreparedRun, Say, load_run
from fedrlvr.launch.simulated import prepare_here, start_here
from fedrlvr.printable import counted, one_line, print_error
from fedrlvr.protocol.refused import Refused
from fedrlvr.report.learning import NOTHING_LEARNT, REMEDY
from fedrlvr.report.progress import Progress
from fedrlvr.report.screen import Screen
from fedrlvr.run import Run, RunFailed
from fedrlvr.server.event_log import EVENTS_FILE
from fedrlvr.settings_file import SettingsError
from fedrlvr.task_package import code_of
from fedrlvr.tasks import own_package, task_named

# Arguments that a resumed run has already.
FIXED = ("method", "seed", "env", "data", "model", "policy", "poc", "start_from", "track")


def prepare(args: argparse.Namespace, say: Say) -> PreparedRun:
    """A new run, or the one that `--resume-from` names. Raises SettingsError."""
    if args.resume_from is None:
        given = args.start_from and args.start_from.absolute()
        fixed = {"method": args.method, "seed": args.seed, "start_from": given}
        experiment = load_experiment(args.config, args.set, args.tiny, **fixed)
        check_tracker(args.track)
        if package := own_package(task_named(experiment.task, experiment.verifier)):
            say(f"task {experiment.task}: of {package}, in {code_of(experiment.task)}")
        prepared = _place(args.env or "sim")[0](experiment, args, say)
        return prepared.model_copy(update={"track": args.track, "dry_run": args.tiny})
    for name in FIXED:
        if getattr(args, name) is not None:
            raise SettingsError(
                f"--{name.replace('_', '-')}: the run that --resume-from names has it already; leave it out"
            )
    if args.tiny or args.rebuild_model:
        raise SettingsError("--tiny, --rebuild-model: the run that --resume-from names is made already; leave them out")
    prepared = load_run(args.resume_from, args.set)
    _check_something_is_left(prepared)
    if args.kit is not None and prepared.environment == "prod":
        prepared = prepared.model_copy(update={"place": str(args.kit.resolve())})
    say(f"resuming {prepared.folder}")
    return prepared


def _check_something_is_left(prepared: PreparedRun) -> None:
    """Raises SettingsError for a run that is finished, as far as what its last job has left can be read."""
    events: list[dict] = []
    with suppress(Refused):
        events = read_events(prepared.folder / EVENTS_FILE, limited=False)
    asked, ended = prepared.spec.job.federation.rounds, events and events[-1]["event"] == "end"
    done = [event.get("rounds") for event in events if event["event"] in ("start", "resumed")][-1:]
    if ended and done == [asked]:
        raise SettingsError(
            f"--resume-from {prepared.folder}: this run is finished, with all its {asked} rounds; --set "
            f"federation.rounds={asked + 1} would go on, and `fedrlvr watch {prepared.folder}` shows what it came to"
        )


def start(prepared: PreparedRun, say: Say) -> Run:
    """If a new run cannot be started, its folder is removed."""
    try:
        run = _place(prepared.environment)[1](prepared, say)
    except BaseException:
        if not prepared.spec.resume:
            shutil.rmtree(prepared.folder)
        raise
    prepared.save()  # only now is it certain that no other command uses the folder
    return run


def _place(environment: str) -> tuple[Callable[..., PreparedRun], Callable[[PreparedRun, Say], Run]]:
    """How a run is prepared and started there."""
    if environment in ("local", "sim"):
        return prepare_here, start_here
    from fedrlvr.launch import submitted  # loads FLARE, which a run in this process does without

    return {
        "poc": (submitted.prepare_for_poc, submitted.start_at_poc),
        "prod": (submitted.prepare_for_production, submitted.start_in_production),
    }[environment]


def _bring_home(server: Path, folder: Path) -> list[Path]:
    """Move what a tracker has left at the server to the run's folder, in place of what an earlier job has left, which
    it holds as well."""
    homes = []
    for name in LEFT:
        source, home = server / name, folder / name
        if source.exists():
            shutil.rmtree(home, ignore_errors=True)
            shutil.move(source, home)
            homes.append(home)
    return homes


def follow(started: Run, prepared: PreparedRun, console: Screen) -> int:
    """Show the run's progress, then its result, also of a run that failed. Returns the exit code."""
    job, began = prepared.spec.job, time.monotonic()
    sites = f"{counted(len(prepared.sites), 'site')}, " if prepared.sites else ""
    console.print(f"{job.method}, {sites}seed {job.seed}; log: {started.log_path}", soft_wrap=True)
    if prepared.environment in ("poc", "prod"):
        for line in Deadlines.of(job).describe()[:-1]:
            console.print(f"  {line}", style="dim", soft_wrap=True)
    events, failure, code = [], None, 0
    progress = Progress(console, prepared.workers)

    def hear(event: dict | None) -> None:
        progress.feed(event)
        if event:
            events.append(event)

    try:
        from fedrlvr.report.run_folder import report  # loads torch and matplotlib, which bad input does without

        with progress.shown():
            started.run(hear)
    except (RunFailed, Refused) as error:
        failure = one_line(str(error))
    except KeyboardInterrupt:
        failure = "interrupted"
    finally:
        started.close()
        if events:
            code = report(events, time.monotonic() - began, started.server_folder, prepared, console)
        for tracked in _bring_home(started.server_folder.parent, prepared.folder):
            console.print(f"{tracked.name + ':':<14} {tracked}", soft_wrap=True)
    if failure:
        _tell_failure(failure, events, started, prepared)
        return 130 if failure == "interrupted" else 1
    if prepared.dry_run:
        console.print(f"This was a dry run. {DRY_RUN}")
    return _learnt_nothing(prepared, console) if code == NOTHING_LEARNT else code


def _tell_failure(failure: str, events: Sequence[dict], started: Run, prepared: PreparedRun) -> None:
    """The server's reason goes before that of who interrupts a run that has stopped already."""
    last = events[-1] if events else {}
    if last.get("event") == "stopped" and not str(last.get("reason")).startswith("aborted"):
        failure = one_line(str(last.get("reason")))
    kept = any(event["event"] == "round" for event in events)
    what = "To resume after its last completed round" if kept else "To begin it again"
    print_error(
        f"the run did not finish: {failure}\nlog: {started.log_path}\n"
        f"{what}: fedrlvr run --resume-from {shlex.quote(str(prepared.folder))}"
    )


def _learnt_nothing(prepared: PreparedRun, console: Screen) -> int:
    """A dry run shows that things work, not that they learn."""
    if prepared.dry_run:
        console.print("No site has learnt anything, which is usual in a dry run. Everything else works.")
        return 0
    where = f" (here: {prepared.folder}/sites/*/completions.jsonl)" if prepared.environment in ("local", "sim") else ""
    print_error(f"no site has learnt anything: the adapter answers as the base model does; {REMEDY}{where}")
    return NOTHING_LEARNT
