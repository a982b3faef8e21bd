"""What a run leaves in its folder: first its adapter, then metrics, summary, the adapter's card, picture and page."""

import json
import shutil
import traceback
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.peft_folder import CARD, FACTORS, Origin, read_origin
from fedrlvr.printable import one_line, print_error
from fedrlvr.report.figure import draw_run
from fedrlvr.report.learning import NOTHING_LEARNT, nothing_learnt
from fedrlvr.report.model_card import Release, model_card, scores_of
from fedrlvr.report.page.folder import SUMMARY
from fedrlvr.report.page.write import PAGE, write_page
from fedrlvr.report.screen import Screen
from fedrlvr.report.summary import evaluations, summarise
from fedrlvr.report.table import print_incidents, print_summary
from fedrlvr.server.adapter_folder import write_adapter
from fedrlvr.server.event_log import EVENTS_FILE

PICTURE, WHY_NOT, BEST = "pass_at_1.png", "report.log", "adapter-best"
INCOMPLETE = 3  # exit code


def report(events: list[dict], seconds: float, server_folder: Path, prepared: PreparedRun, console: Screen) -> int:
    """Write the adapter, then metrics, summary, picture and page into the run's folder, print the table, and say where
    all of it is. What cannot be done is one line on stderr and costs nothing that came before it. Returns the run's
    exit code: INCOMPLETE where something could not be done, NOTHING_LEARNT where no site has learnt, else 0."""
    folder, code = prepared.folder, 0
    try:
        adapters = _final_adapters(server_folder, prepared)
    except (OSError, ValueError, SafetensorError) as error:
        print_error(f"the adapter was not written ({one_line(str(error))}); the server's is in {server_folder}/rounds")
        adapters, code = [], INCOMPLETE
    try:
        learnt = _tell(events, seconds, server_folder, prepared, console)
        code = code or (0 if learnt else NOTHING_LEARNT)
    except (Exception, KeyboardInterrupt) as error:  # whatever is wrong with a report, the run is over
        why = one_line(f"{type(error).__name__}: {error}").rstrip(":")
        print_error(f"the report of this run is not complete: {why}; {folder / WHY_NOT} has the details")
        with suppress(OSError):  # it may be the disk that is full
            (folder / WHY_NOT).write_text(traceback.format_exc(), encoding="utf-8")
        code = INCOMPLETE
    for adapter in adapters:
        console.print(f"{'adapter:':<14} {adapter}", soft_wrap=True)
    if adapters:
        console.print(f"{'base model:':<14} {prepared.base_model}", soft_wrap=True)
    for name in (BEST, SUMMARY, EVENTS_FILE, PICTURE, PAGE):
        if (folder / name).exists():
            console.print(f"{name + ':':<14} {folder / name}", soft_wrap=True)
    return code


def _tell(events: list[dict], seconds: float, server_folder: Path, prepared: PreparedRun, console: Screen) -> bool:
    """Returns whether the run has learnt anything, as far as it is known."""
    folder = prepared.folder
    if not any(event["event"] == "start" for event in events):
        return True  # the server stopped before it asked any site
    shutil.copyfile(server_folder / EVENTS_FILE, folder / EVENTS_FILE)
    spec = prepared.spec
    about = {"job": spec.job.model_dump(mode="json"), "base_model": spec.base_model, "test_sha256": spec.test_sha256}
    if spec.task_package:
        about["task_package"] = str(spec.task_package)
    summary = summarise(events, seconds) | about
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    show = print_summary if summary["final"] else print_incidents
    show(summary, console)
    _keep_best(summary["best"], server_folder, prepared)
    _write_cards(events, summary, server_folder, prepared)
    if summary["base"]:
        draw_run(events, summary, folder / PICTURE)
    write_page(folder, prepared=prepared)
    return not nothing_learnt(summary["learning"])


def _keep_best(best: dict | None, server_folder: Path, prepared: PreparedRun) -> None:
    """Write the adapter of the best round, unless that is the last one. A job that went on after this round has no copy
    of it; then the one that an earlier job has left stays."""
    folder, rounds = prepared.folder / BEST, _rounds(server_folder)
    if best is None or not rounds:
        return
    if int(rounds[-1].name) == best["round"]:
        shutil.rmtree(folder, ignore_errors=True)
    for path in rounds[:-1]:
        if int(path.name) == best["round"]:
            _write(path, folder, prepared)


def _final_adapters(server_folder: Path, prepared: PreparedRun) -> list[Path]:
    """The last averaged adapter, written; without averaging, each site's own folder."""
    if not METHODS[prepared.spec.job.method].average:
        return list(_own_adapters(prepared).values())
    if not (rounds := _rounds(server_folder)):
        return []
    _write(rounds[-1], prepared.folder / "adapter", prepared)
    return [prepared.folder / "adapter"]


def _own_adapters(prepared: PreparedRun) -> dict[str, Path]:
    """Of every site whose folder is on this machine."""
    folders = {name: config.state_dir / "adapter" for name, config in prepared.sites.items()}
    return {name: path for name, path in folders.items() if path.exists()}


def _write_cards(events: list[dict], summary: dict, server_folder: Path, prepared: PreparedRun) -> None:
    """Beside each adapter that the run leaves. What another program put there is replaced."""
    spec, job, best = prepared.spec, prepared.spec.job, summary["best"]
    if METHODS[job.method].average:
        last = [(prepared.folder / "adapter", int(path.name), None, False) for path in _rounds(server_folder)[-1:]]
        if best and (prepared.folder / BEST).exists():
            last.append((prepared.folder / BEST, best["round"], None, True))
    else:
        number = max((event["round"] for event in evaluations(events, "local")), default=0)
        last = [(path, number, site, False) for site, path in _own_adapters(prepared).items()]
    for folder, number, site, is_best in (one for one in last if one[0].exists()):
        origin = read_origin(folder) or Origin(base_model=job.model)
        scores, samples = scores_of(events, number, site)
        about = (job, origin, prepared.license, prepared.dry_run, summary, spec.task_package)
        release = Release(*about, number, is_best, scores, samples)
        unfinished = folder / f"{CARD}.tmp"
        unfinished.write_text(model_card(release), encoding="utf-8")
        unfinished.replace(folder / CARD)


def _rounds(server_folder: Path) -> list[Path]:
    return sorted((server_folder / "rounds").glob("[0-9]*"), key=lambda path: int(path.name))


def _write(kept: Path, folder: Path, prepared: PreparedRun) -> None:
    known = read_origin(kept)
    fingerprint = prepared.spec.base_model or (known and known.fingerprint)
    origin = Origin(base_model=prepared.spec.job.model, fingerprint=fingerprint)
    write_adapter(folder, load_file(kept / FACTORS), prepared.spec.job.lora, origin)
