"""What a run leaves in its folder: first its adapter, then metrics, summary and picture."""

import json
import shutil
import traceback
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.printable import one_line, print_error
from fedrlvr.report.figure import draw_run
from fedrlvr.report.screen import Screen
from fedrlvr.report.summary import summarise
from fedrlvr.report.table import print_incidents, print_summary
from fedrlvr.server.adapter_folder import write_adapter
from fedrlvr.server.event_log import EVENTS_FILE

SUMMARY, PICTURE, WHY_NOT = "summary.json", "pass_at_1.png", "report.log"


def report(events: list[dict], seconds: float, server_folder: Path, prepared: PreparedRun, console: Screen) -> bool:
    """Write the adapter, then metrics, summary and picture into the run's folder, print the table, and say where all
    of it is. What cannot be done is one line on stderr and costs nothing that came before it. Returns whether all
    could be done."""
    folder, done = prepared.folder, True
    try:
        adapters = _final_adapters(server_folder, prepared)
    except (OSError, ValueError, SafetensorError) as error:
        print_error(f"the adapter was not written ({one_line(str(error))}); the server's is in {server_folder}/rounds")
        adapters, done = [], False
    try:
        _tell(events, seconds, server_folder, folder, console)
    except (Exception, KeyboardInterrupt) as error:  # whatever is wrong with a report, the run is over
        why = one_line(f"{type(error).__name__}: {error}").rstrip(":")
        print_error(f"the report of this run is not complete: {why}; {folder / WHY_NOT} has the details")
        with suppress(OSError):  # it may be the disk that is full
            (folder / WHY_NOT).write_text(traceback.format_exc(), encoding="utf-8")
        done = False
    for adapter in adapters:
        console.print(f"adapter:  {adapter}", soft_wrap=True)
    for name in (SUMMARY, EVENTS_FILE, PICTURE):
        if (folder / name).exists():
            console.print(f"{name + ':':<14} {folder / name}", soft_wrap=True)
    return done


def _tell(events: list[dict], seconds: float, server_folder: Path, folder: Path, console: Screen) -> None:
    if not any(event["event"] == "start" for event in events):
        return  # the server stopped before it asked any site
    shutil.copyfile(server_folder / EVENTS_FILE, folder / EVENTS_FILE)
    summary = summarise(events, seconds)
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    show = print_summary if summary["final"] else print_incidents
    show(summary, console)
    if summary["base"]:
        draw_run(events, summary, folder / PICTURE)


def _final_adapters(server_folder: Path, prepared: PreparedRun) -> list[Path]:
    """The last averaged adapter, written with the base model's path; without averaging, each site's own folder."""
    if not METHODS[prepared.spec.job.method].average:
        return [path for path in (config.state_dir / "adapter" for config in prepared.sites.values()) if path.exists()]
    rounds = sorted((server_folder / "rounds").glob("[0-9]*"), key=lambda path: int(path.name))
    if not rounds:
        return []
    adapter = load_file(rounds[-1] / "adapter_model.safetensors")
    write_adapter(prepared.folder / "adapter", adapter, prepared.spec.job.lora, prepared.base_model)
    return [prepared.folder / "adapter"]
