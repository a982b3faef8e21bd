"""`fedrlvr watch`: follow a run that somebody else has started. It only reads: an interruption ends the watching, and
the run goes on."""

import argparse
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fedrlvr.printable import one_line, print_error
from fedrlvr.report.progress import Progress
from fedrlvr.report.screen import Screen
from fedrlvr.run import Hear
from fedrlvr.settings_file import SettingsError

UNFINISHED = 1  # exit code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="RUN|JOB", help="a run's folder, or a job's id at the server of --kit")
    parser.add_argument("--kit", type=Path, metavar="DIR", help="your startup kit, to follow a job by its id")


def run(arguments: argparse.Namespace) -> int:
    """The exit code is 0 for a run that is finished and for one that is left to itself, UNFINISHED for one that has
    stopped. Raises SettingsError for what is neither a run nor a job."""
    from fedrlvr.protocol.refused import Refused
    from fedrlvr.run import RunFailed

    console, events = Screen(), []
    follow, look = _followed(arguments, partial(console.print, soft_wrap=True))
    progress = Progress(console, look)

    def hear(event: dict | None) -> None:
        progress.feed(event)
        if event is not None:
            events.append(event)

    try:
        with progress.shown():
            follow(hear)
    except RunFailed as error:
        print_error(error)
        return UNFINISHED
    except Refused as error:
        print_error(f"{arguments.target}: its events cannot be read: {error}")
        return UNFINISHED
    except KeyboardInterrupt:
        console.print("watched no more; the run goes on")
        return 0
    return _tell_end(events, console, arguments)


def _followed(arguments: argparse.Namespace, say: Callable[[str], None]) -> tuple[Callable[[Hear], None], Callable]:
    """What follows the run, and what tells what its workers do."""
    from fedrlvr.flare.lead.followed_job import watch_job
    from fedrlvr.flare.lead.session import open_kit
    from fedrlvr.launch import watching
    from fedrlvr.launch.prepared_run import read_run

    if arguments.kit is not None:
        connect = open_kit(arguments.kit)
        return lambda hear: watch_job(arguments.target, connect, hear, say), dict
    folder = Path(arguments.target)
    if not folder.exists():
        raise SettingsError(
            f"{folder}: no such folder; expected that of a run, such as workspace/demo-pubswap-seed0, or a job's id "
            "and your startup kit in --kit"
        )
    prepared = read_run(folder)
    if prepared.environment in ("local", "sim") or watching.has_ended(prepared):
        return lambda hear: watching.watch_here(prepared, hear), prepared.workers
    return lambda hear: watching.watch_at_server(prepared, hear, say), prepared.workers


def _tell_end(events: list[dict], console: Screen, arguments: argparse.Namespace) -> int:
    """How it ended, and what it came to."""
    from fedrlvr.report.table import print_incidents, print_summary

    last, target = events[-1] if events else {"event": "nothing"}, arguments.target
    folder = Path(target) if arguments.kit is None else None
    if last["event"] != "end":
        why = f"it stopped: {one_line(str(last.get('reason')))}" if last["event"] == "stopped" else "nobody runs it now"
        resume = f"; `fedrlvr run --resume-from {shlex.quote(target)}` goes on with it" if folder else ""
        print_error(f"{target} is not finished, and {why}{resume}")
        return UNFINISHED
    try:
        summary = _summary(events, folder)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        print_error(f"{target} is finished, but its events are not those of a run: {type(error).__name__}: {error}")
        return UNFINISHED
    console.print(f"{target} is finished", soft_wrap=True)
    show = print_summary if summary["base"] and summary["final"] else print_incidents
    show(summary, console)
    return 0


def _summary(events: list[dict], folder: Path | None) -> dict:
    """With the time that the run took, where its folder says it of this very end. Else of the time with tasks out
    alone: nobody knows then how long it took to start and to stop."""
    from fedrlvr.json_text import from_json
    from fedrlvr.report.page.folder import SUMMARY, Left
    from fedrlvr.report.summary import summarise

    known = summarise(events, events[-1].get("asking_seconds", 0.0))
    if folder is None:
        return known
    try:
        left = from_json((folder / SUMMARY).read_bytes())
        whole = summarise(events, Left.model_validate(left).seconds.wall)
    except (OSError, ValueError):
        return known
    return whole if whole["seconds"] == left["seconds"] else known
