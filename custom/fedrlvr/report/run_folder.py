"""What a run leaves in its folder: metrics, summary, picture and adapter."""

import json
import shutil
from pathlib import Path

from rich.console import Console
from safetensors.torch import load_file

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.report.figure import draw_run
from fedrlvr.report.summary import summarise
from fedrlvr.report.table import print_incidents, print_summary
from fedrlvr.server.adapter_folder import write_adapter
from fedrlvr.server.event_log import EVENTS_FILE


def report(events: list[dict], seconds: float, server_folder: Path, prepared: PreparedRun, console: Console) -> None:
    """Write metrics, summary, picture and adapter into the run's folder, and print the table."""
    if not any(event["event"] == "start" for event in events):
        return  # the server stopped before it asked any site
    folder = prepared.folder
    shutil.copyfile(server_folder / EVENTS_FILE, folder / EVENTS_FILE)
    summary = summarise(events, seconds)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    if summary["base"]:
        draw_run(events, summary, folder / "pass_at_1.png")
    show = print_summary if summary["final"] else print_incidents
    show(summary, console)
    for adapter in _final_adapters(server_folder, prepared):
        console.print(f"adapter:  {adapter}", markup=False, highlight=False, soft_wrap=True)
    for name in ("summary.json", EVENTS_FILE, "pass_at_1.png"):
        if (folder / name).exists():
            console.print(f"{name + ':':<14} {folder / name}", markup=False, highlight=False, soft_wrap=True)


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
