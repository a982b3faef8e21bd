"""Runs on a FLARE server: in a proof of concept on this machine, for whose sites files are written here, or in
production, where the lead has the consortium's public part and nothing of any site."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.data.manifest import SHARED_SETS, check_manifest
from fedrlvr.flare.deploy.poc import Poc
from fedrlvr.flare.lead.session import open_kit
from fedrlvr.flare.lead.submission import Submission
from fedrlvr.flare.site.site_kit import SITE_FILE
from fedrlvr.launch.experiment import ExperimentConfig, spec_on
from fedrlvr.launch.prepared_problems import sites_in
from fedrlvr.launch.prepared_run import PreparedRun, Say, fresh_folder
from fedrlvr.launch.simulated import prepare_sites
from fedrlvr.settings_file import SettingsError
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import LocalModel


def prepare_for_poc(experiment: ExperimentConfig, args: argparse.Namespace, say: Say) -> PreparedRun:
    """Make problems and model for the sites of the running proof of concept. Each site keeps its own policy, and its
    state in its own folder."""
    _check_arguments(experiment, args)
    poc = Poc(args.poc or args.workspace / "poc")
    deployment = poc.running()
    sites = deployment.sites
    if args.data is None:
        experiment = deal_labels(experiment, sites, say)
    else:
        _check_names(sites_in(args.data), sites)
    prepared = prepare_sites(experiment, args, say)
    configs = {}
    for name, config in prepared.sites.items():
        local = deployment.kit(name) / "local"
        configs[name] = config.model_copy(update={"state_dir": local / "state" / prepared.folder.name})
    return prepared.model_copy(update={"sites": configs, "environment": "poc", "place": str(poc.folder)})


def start_at_poc(prepared: PreparedRun, say: Say) -> Submission:
    """Start or resume the run in its proof of concept, which must be up. Each site's file is written for this run."""
    poc = Poc(Path(prepared.place))
    deployment = poc.running()
    _check_names(prepared.sites, deployment.sites)
    for name, config in prepared.sites.items():
        own = config.model_copy(update={"policy": Path("policy.yaml")})
        own.write(deployment.kit(name) / "local" / SITE_FILE)
    say(f"proof of concept at localhost:{deployment.port}, {poc.folder}")
    connect = open_kit(deployment.kit(deployment.lead))
    return Submission(prepared.folder, prepared.spec, connect, say, prepared.start_from, prepared.track)


def prepare_for_production(experiment: ExperimentConfig, args: argparse.Namespace, say: Say) -> PreparedRun:
    """The consortium's public and test set, checked against its manifest, define the problems of the job."""
    _check_arguments(experiment, args)
    for flag, value, what in (
        ("--kit", args.kit, "your own startup kit, as `nvflare provision` made it"),
        ("--data", args.data, "the consortium's public.jsonl, test.jsonl and manifest.json"),
    ):
        if value is None:
            raise SettingsError(f"--env prod needs {flag} DIR: {what}")
    kit = args.kit.resolve()
    open_kit(kit)
    check_manifest(args.data)
    model, fingerprint = experiment.model, None
    if args.model:
        LocalModel(model_path=args.model).check_model("--model")
        model, fingerprint = str(args.model.resolve()), model_fingerprint(args.model)
    shared = (args.data / f"{name}.jsonl" for name in SHARED_SETS)
    spec = spec_on(*shared, experiment.as_job(), fingerprint)
    with fresh_folder(args.workspace.resolve(), experiment) as folder:
        about = {"base_model": model, "start_from": experiment.start_from, "license": experiment.license}
        return PreparedRun(folder=folder, spec=spec, environment="prod", place=str(kit), **about)


def start_in_production(prepared: PreparedRun, say: Say) -> Submission:
    kit = Path(prepared.place)
    say(f"production, with the kit of {kit.name}")
    return Submission(prepared.folder, prepared.spec, open_kit(kit), say, prepared.start_from, prepared.track)


def deal_labels(experiment: ExperimentConfig, sites: Sequence[str], say: Say) -> ExperimentConfig:
    """Give these sites the preset's labels: site by site if it has as many sites, else label by label in turn. If
    `min_sites` is larger than the number of sites, reduce it."""
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
    """Raises SettingsError for what only a simulation can do."""
    if METHODS[experiment.method].pooled_data:
        raise SettingsError(
            f"--method {experiment.method}: all problems in one place, which --env {args.env} is meant to avoid; use "
            "--env sim"
        )
    if args.policy:
        raise SettingsError(f"--policy: has no effect with --env {args.env}, where each site has its own")


def _check_names(found: Iterable[str], expected: Iterable[str]) -> None:
    if set(found) != set(expected):
        raise SettingsError(
            f"--data: holds problems of {', '.join(sorted(found))}, but the proof of concept has "
            f"{', '.join(sorted(expected))}; expected a file NAME.jsonl for each of these and no other"
        )
