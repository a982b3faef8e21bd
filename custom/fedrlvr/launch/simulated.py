"""Runs whose sites are all on this machine, in FLARE's simulator or in this process: problems, base model and every
site's file are made or taken over here."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import yaml
from rich.console import Console

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.data.problems import read_problems
from fedrlvr.flare.lead.simulator import Simulation, check_folder
from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.launch.local import LocalRun
from fedrlvr.launch.prepared_run import PreparedRun, fresh_folder
from fedrlvr.launch.simulated_site import site_config, site_model, site_problems
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.run import Run
from fedrlvr.settings_file import SettingsError
from fedrlvr.site.egress import read_policy
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import task_named


def simulate(experiment: ExperimentConfig, args: argparse.Namespace, console: Console) -> tuple[Run, PreparedRun]:
    check_folder(args.workspace.resolve())
    return _here(experiment, args, console, "sim")


def run_locally(experiment: ExperimentConfig, args: argparse.Namespace, console: Console) -> tuple[Run, PreparedRun]:
    return _here(experiment, args, console, "local")


def _here(experiment: ExperimentConfig, args, console: Console, environment: str) -> tuple[Run, PreparedRun]:
    policy = _policy(experiment, args)
    prepared = replace(prepare_sites(experiment, args, console), environment=environment)
    if policy is not None:
        sites = {name: _with_policy(config, policy) for name, config in prepared.sites.items()}
        prepared = replace(prepared, sites=sites)
    return begin_here(prepared, args, console), prepared


def begin_here(prepared: PreparedRun, args: argparse.Namespace, console: Console) -> Run:
    """The run on this machine, from its beginning or from where it came to."""
    kind = {"sim": Simulation, "local": LocalRun}[prepared.environment]
    run = kind(prepared.folder, prepared.spec, prepared.sites)
    prepared.save()  # not before the folder is known to be nobody else's
    return run


def prepare_sites(experiment: ExperimentConfig, args: argparse.Namespace, console: Console) -> PreparedRun:
    """Claim a fresh folder for the run, write every site's problems, and make or find the base model."""
    workspace = args.workspace.resolve()
    task = task_named(experiment.task, experiment.verifier)
    deepspeed = args.config.resolve().parent / experiment.deepspeed
    if not deepspeed.is_file():
        raise SettingsError(f"deepspeed: no such file: {deepspeed}")
    source, models = args.model.resolve() if args.model else None, workspace / "models"
    with fresh_folder(workspace, experiment) as folder:
        data = folder / "data"
        names, public_sha256 = site_problems(experiment, task, args.data, args.tiny, data)
        job = experiment.job(names)
        if METHODS[job.method].pooled_data:
            names = ["pooled"]
        progress = _model_progress(console)
        model_path = site_model(experiment, task, source, args.tiny, models, args.rebuild_model, progress)
        fingerprint = model_fingerprint(model_path)
        public_ids = [problem.id for problem in read_problems(data / "public.jsonl", task)]
    states = folder / "sites"
    sites = {name: site_config(name, experiment, data, model_path, deepspeed, states / name) for name in names}
    spec = RunSpec(job=job, public_ids=public_ids, public_sha256=public_sha256, base_model=fingerprint)
    return PreparedRun(folder, spec, str(model_path), sites)


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


def _model_progress(console: Console):
    def show(step: int, steps: int, loss: float) -> None:
        if step == 1:
            console.print(f"making the base model: {steps} supervised steps", highlight=False)
        elif step % 100 == 0:
            console.print(f"  step {step}/{steps}  loss {loss:.3f}", highlight=False)

    return show
