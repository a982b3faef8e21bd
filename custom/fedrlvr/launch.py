"""From a preset to a finished run: problems and base model made, job simulated, result reported. What `jobs/*/job.py`
call."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import transformers
import yaml
from rich.console import Console
from safetensors.torch import load_file

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.schedule import steps_per_segment
from fedrlvr.config import JobConfig
from fedrlvr.data.experiment import ExperimentConfig, load_experiment
from fedrlvr.data.problems import ProblemFileError, read_problems
from fedrlvr.data.simulated import site_config, site_model, site_problems
from fedrlvr.federation.checkpoint import write_adapter
from fedrlvr.federation.simulator import Simulation, SimulationFailed, check_folder
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.report.figure import draw_run
from fedrlvr.report.progress import Progress
from fedrlvr.report.summary import summarise
from fedrlvr.report.table import print_summary
from fedrlvr.settings_file import SettingsError
from fedrlvr.site.egress import read_policy
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import task_named
from fedrlvr.types import Adapter


@dataclass(frozen=True)
class PreparedRun:
    """What a simulation needs. `model_path` is where the base model lies, for the adapter that is taken home."""

    folder: Path
    job: JobConfig
    public_ids: list[str]
    manifest: str
    sites: dict[str, SiteConfig]
    model_path: Path


def arguments(description: str, config: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, default=config, help="preset (default: %(default)s)")
    parser.add_argument("--method", choices=list(METHODS), help="default: what the preset says")
    parser.add_argument("--seed", type=int, help="default: what the preset says")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting of the preset"
    )
    parser.add_argument(
        "--workspace", type=Path, default=Path("workspace"), help="where runs and models go (default: %(default)s)"
    )
    parser.add_argument("--env", choices=["sim"], default="sim", help="where to run: FLARE's simulator")
    parser.add_argument("--data", type=Path, metavar="DIR", help="problems: a folder made by `fedrlvr prepare`")
    parser.add_argument("--model", type=Path, metavar="DIR", help="base model: a Hugging Face directory")
    parser.add_argument("--tiny", action="store_true", help="a dry run in minutes: everything small, on a CPU")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="privacy policy of every simulated site")
    parser.add_argument("--rebuild-model", action="store_true", help="make the base model anew although it is there")
    return parser.parse_args()


def run(args: argparse.Namespace) -> int:
    """Run one experiment; returns the exit code. Bad input ends here with one message and code 2, a failed run with
    1."""
    console = Console()
    logging.disable(logging.WARNING)  # libraries' notes on this machine would tear the progress line apart
    transformers.utils.logging.disable_progress_bar()
    try:
        experiment = load_experiment(args.config, args.set, args.tiny, method=args.method, seed=args.seed)
        prepared = prepare(experiment, args, console)
        simulation = Simulation(prepared.folder, prepared.job, prepared.public_ids, prepared.manifest, prepared.sites)
    except (SettingsError, ProblemFileError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted before the run began", file=sys.stderr)
        return 130
    return follow(simulation, prepared, console)


def prepare(experiment: ExperimentConfig, args: argparse.Namespace, console: Console) -> PreparedRun:
    """Claim a fresh folder for the run, write every site's files, and make or find the base model.

    A run that cannot begin leaves no folder behind.
    """
    workspace = args.workspace.resolve()
    check_folder(workspace)
    task = task_named(experiment.task, experiment.verifier)
    deepspeed = args.config.resolve().parent / experiment.deepspeed
    if not deepspeed.is_file():
        raise SettingsError(f"deepspeed: no such file: {deepspeed}")
    policy = _policy(experiment, args)
    folder = _fresh_folder(workspace / f"{experiment.name}-{experiment.method}-seed{experiment.seed}")
    data, source = folder / "data", args.model.resolve() if args.model else None
    try:
        names, manifest = site_problems(experiment, task, args.data, args.tiny, data)
        job = experiment.job(names)
        if METHODS[job.method].pooled_data:
            names = ["pooled"]
        model_path = site_model(
            experiment,
            task,
            source,
            args.tiny,
            workspace / "models",
            args.rebuild_model,
            _model_progress(console),
        )
    except BaseException:
        shutil.rmtree(folder)
        raise
    sites = {
        name: site_config(name, experiment, data, model_path, deepspeed, folder / "sites" / name) for name in names
    }
    if policy is not None:
        sites = {name: _with_policy(config, policy) for name, config in sites.items()}
    public_ids = [problem.id for problem in read_problems(data / "public.jsonl", task)]
    return PreparedRun(folder, job, public_ids, manifest, sites, model_path)


def follow(simulation: Simulation, prepared: PreparedRun, console: Console) -> int:
    """Show the run's progress, then its result; what was done before a failure is kept and reported too."""
    job, began = prepared.job, time.monotonic()
    console.print(
        f"{job.method}, {len(prepared.sites)} sites, seed {job.seed}; FLARE's log: {simulation.log_path}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    events, failure = [], None
    progress = Progress(console, job.federation.rounds, job.total_segments, steps_per_segment(job), len(prepared.sites))
    try:
        with progress:
            for event in simulation.events():
                progress.feed(event)
                if event:
                    events.append(event)
    except SimulationFailed as error:
        failure = str(error)
    except KeyboardInterrupt:
        failure = "interrupted"
    finally:
        if events:
            report(events, time.monotonic() - began, simulation, prepared, console)
    if failure:
        print(f"error: the run did not finish: {failure}\nFLARE's log: {simulation.log_path}", file=sys.stderr)
        return 130 if failure == "interrupted" else 1
    return 0


def report(events: list[dict], seconds: float, simulation: Simulation, prepared: PreparedRun, console: Console) -> None:
    """Write metrics, summary, picture and adapter into the run's folder, and print the table."""
    folder = prepared.folder
    shutil.copyfile(simulation.server_folder / "metrics.jsonl", folder / "metrics.jsonl")
    summary = summarise(events, seconds)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    if summary["base"]:
        draw_run(events, summary, folder / "pass_at_1.png")
    if summary["final"]:
        print_summary(summary, console)
    for adapter in _final_adapters(simulation, prepared):
        console.print(f"adapter:  {adapter}", markup=False, highlight=False, soft_wrap=True)
    for name in ("summary.json", "metrics.jsonl", "pass_at_1.png"):
        if (folder / name).exists():
            console.print(f"{name + ':':<14} {folder / name}", markup=False, highlight=False, soft_wrap=True)


def _final_adapters(simulation: Simulation, prepared: PreparedRun) -> list[Path]:
    """The last averaged adapter, with the base model's place in it; without averaging, each site's own, at the site."""
    if not METHODS[prepared.job.method].average:
        return [path for path in (config.state_dir / "adapter" for config in prepared.sites.values()) if path.exists()]
    rounds = sorted((simulation.server_folder / "rounds").glob("[0-9]*"), key=lambda path: int(path.name))
    if not rounds:
        return []
    adapter: Adapter = load_file(rounds[-1] / "adapter_model.safetensors")
    write_adapter(prepared.folder / "adapter", adapter, prepared.job.lora, str(prepared.model_path))
    return [prepared.folder / "adapter"]


def _policy(experiment: ExperimentConfig, args: argparse.Namespace) -> SitePolicy | None:
    path = args.policy or (experiment.policy and args.config.resolve().parent / experiment.policy)
    return read_policy(path) if path else None


def _with_policy(config: SiteConfig, policy: SitePolicy) -> SiteConfig:
    """A simulated site's own copy of the policy, its log and its ledger, in its own folder."""
    config.state_dir.mkdir(parents=True)
    own = policy.model_copy(update={"log": Path("egress.jsonl"), "ledger": Path("ledger.jsonl")})
    path = config.state_dir / "policy.yaml"
    path.write_text(yaml.safe_dump(own.model_dump(mode="json", exclude_none=True), sort_keys=False))
    return config.model_copy(update={"policy": path})


def _fresh_folder(path: Path) -> Path:
    """`path`, or `path-2`, `path-3`, ...: an earlier run's results are never written over."""
    number, candidate = 1, path
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")


def _model_progress(console: Console):
    def show(step: int, steps: int, loss: float) -> None:
        if step == 1:
            console.print(f"making the base model: {steps} supervised steps", highlight=False)
        elif step % 100 == 0:
            console.print(f"  step {step}/{steps}  loss {loss:.3f}", highlight=False)

    return show
