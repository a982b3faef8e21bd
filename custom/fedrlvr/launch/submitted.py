"""On a FLARE server: a proof of concept on this machine, whose sites' files are written here, or production, where the
lead has the consortium's public part and nothing of any site."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.config import JobConfig
from fedrlvr.data.manifest import check_manifest
from fedrlvr.data.problems import manifest_hash, read_problems
from fedrlvr.flare.deploy.poc import Poc, tell_site
from fedrlvr.flare.lead.session import open_kit
from fedrlvr.flare.lead.submission import Submission
from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.launch.prepared_problems import sites_in
from fedrlvr.launch.prepared_run import PreparedRun, fresh_folder
from fedrlvr.launch.simulated import prepare_sites
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.settings_file import SettingsError
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import LocalModel
from fedrlvr.tasks import task_named


def submit_to_poc(
    experiment: ExperimentConfig, args: argparse.Namespace, console: Console
) -> tuple[Submission, PreparedRun]:
    """Write what each site of the running proof of concept says of its model and problems, which it reads anew for
    every job. Its policy stays its own, and what it keeps is in its own folder."""
    _check_arguments(experiment, args)
    poc = Poc(args.poc or args.workspace / "poc")
    deployment = poc.running()
    sites = deployment.project.sites
    if args.data is None:
        experiment = deal_labels(experiment, sites, _say(console))
    else:
        _check_names(sites_in(args.data), sites)
    prepared = prepare_sites(experiment, args, console)
    configs = {}
    for name, config in prepared.sites.items():
        local = deployment.kit(name) / "local"
        configs[name] = config.model_copy(update={"state_dir": local / "state" / prepared.folder.name})
    prepared = replace(prepared, sites=configs, environment="poc", place=str(poc.folder))
    return again_to_poc(prepared, args, console), prepared


def again_to_poc(prepared: PreparedRun, args: argparse.Namespace, console: Console) -> Submission:
    """The run in its proof of concept, which has to be up, from its beginning or from where it came to."""
    poc = Poc(Path(prepared.place))
    deployment = poc.running()
    _check_names(list(prepared.sites), deployment.project.sites)
    for name, config in prepared.sites.items():
        tell_site(deployment.kit(name) / "local", config)
    console.print(f"proof of concept at localhost:{deployment.project.port}, {poc.folder}", **_PLAIN)
    return _submission(prepared, open_kit(deployment.kit(deployment.project.lead)), console)


def submit_to_production(
    experiment: ExperimentConfig, args: argparse.Namespace, console: Console
) -> tuple[Submission, PreparedRun]:
    """The consortium's public and test set, checked against its manifest, say which problems a job is about."""
    _check_arguments(experiment, args)
    for flag, value, what in (
        ("--kit", args.kit, "your own startup kit, as `nvflare provision` made it"),
        ("--data", args.data, "the consortium's public.jsonl, test.jsonl and manifest.json"),
    ):
        if value is None:
            raise SettingsError(f"--env prod needs {flag} DIR: {what}")
    kit = args.kit.resolve()
    open_kit(kit)
    task = task_named(experiment.task, experiment.verifier)
    public = check_manifest(args.data)["public"]
    for name in ("public", "test"):
        read_problems(args.data / f"{name}.jsonl", task)
    model, fingerprint = experiment.model, None
    if args.model:
        LocalModel(model_path=args.model).check_model()
        model, fingerprint = str(args.model.resolve()), model_fingerprint(args.model)
    job = JobConfig(**{name: getattr(experiment, name) for name in JobConfig.model_fields})
    with fresh_folder(args.workspace.resolve(), experiment) as folder:
        ids = [problem.id for problem in public]
        spec = RunSpec(job=job, public_ids=ids, public_sha256=manifest_hash(public), base_model=fingerprint)
        prepared = PreparedRun(folder, spec, model, environment="prod", place=str(kit))
    return again_to_production(prepared, args, console), prepared


def again_to_production(prepared: PreparedRun, args: argparse.Namespace, console: Console) -> Submission:
    """The run in production, with the kit that it was submitted with or the one that is given."""
    if args.kit is not None:
        prepared = replace(prepared, place=str(args.kit.resolve()))
    connect = open_kit(Path(prepared.place))
    console.print(f"production, with the kit of {Path(prepared.place).name}", **_PLAIN)
    return _submission(prepared, connect, console)


def deal_labels(experiment: ExperimentConfig, sites: Sequence[str], say: Callable[[str], None]) -> ExperimentConfig:
    """The preset's labels dealt over these sites in turn, unless it has as many sites; `min_sites` follows down."""
    if experiment.data is None:
        return experiment
    dealt = dict(zip(sites, experiment.data.sites.values(), strict=False))
    if len(experiment.data.sites) != len(sites):
        labels = list(dict.fromkeys(label for some in experiment.data.sites.values() for label in some))
        count = max(len(labels), len(sites))
        turns = [(sites[i % len(sites)], labels[i % len(labels)]) for i in range(count)]
        dealt = {site: tuple(label for name, label in turns if name == site) for site in sites}
        say("labels dealt: " + "; ".join(f"{site} {', '.join(some)}" for site, some in dealt.items()))
    federation = experiment.federation
    if federation.min_sites > len(sites):
        say(f"federation.min_sites: {federation.min_sites} in the preset, now {len(sites)}, as many as there are sites")
        federation = federation.model_copy(update={"min_sites": len(sites)})
    data = experiment.data.model_copy(update={"sites": dealt})
    return experiment.model_copy(update={"data": data, "federation": federation})


def _check_arguments(experiment: ExperimentConfig, args: argparse.Namespace) -> None:
    """What only a simulation can do. Raises SettingsError."""
    if METHODS[experiment.method].pooled_data:
        raise SettingsError(
            f"--method {experiment.method}: all problems in one place, which --env {args.env} is there to avoid; use "
            "--env sim"
        )
    if args.policy:
        raise SettingsError(f"--policy: has no effect with --env {args.env}, where each site has its own")


def _check_names(found: Sequence[str], expected: Sequence[str]) -> None:
    if set(found) != set(expected):
        raise SettingsError(
            f"--data: holds problems of {', '.join(sorted(found))}, but the proof of concept has "
            f"{', '.join(sorted(expected))}; expected a file NAME.jsonl for each of these and no other"
        )


def _submission(prepared: PreparedRun, connect: Callable, console: Console) -> Submission:
    submission = Submission(prepared.folder, prepared.spec, connect, _say(console))
    prepared.save()  # not before the folder is known to be nobody else's
    return submission


_PLAIN = {"markup": False, "highlight": False, "soft_wrap": True}


def _say(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(text, **_PLAIN)
