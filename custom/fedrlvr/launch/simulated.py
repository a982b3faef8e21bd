"""Runs whose sites are all on this machine, in FLARE's simulator or in this process. The problems, the base model and
every site's file are made here, or copied from what the user names."""

import argparse
from pathlib import Path

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.data.manifest import HELDOUT, SHARED_SETS
from fedrlvr.flare.lead.simulated_sites import check_folder
from fedrlvr.flare.lead.simulator import Simulation
from fedrlvr.launch.experiment import ExperimentConfig, spec_on
from fedrlvr.launch.gpus import deal, told, usable_gpus
from fedrlvr.launch.prepared_problems import copy_prepared, sites_in
from fedrlvr.launch.prepared_run import PreparedRun, Say, fresh_folder
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.run import Run
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.shipped import file_or_shipped, shipped
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import LocalModel, SiteConfig
from fedrlvr.tasks import SYNTHETIC, TASKS, Task, task_named
from fedrlvr.tasks.task import GeneratedTask
from fedrlvr.tiny.base_model import base_model
from fedrlvr.tiny.generated import write_generated, write_manifest


def prepare_here(experiment: ExperimentConfig, args: argparse.Namespace, say: Say) -> PreparedRun:
    environment = args.env or "sim"
    if environment == "local" and args.track is not None:
        raise SettingsError("--track: trackers are FLARE's, which --env local does without; use --env sim")
    if environment == "sim":
        check_folder(args.workspace.resolve())
    path = file_or_shipped("policy", args.policy) if args.policy else experiment.policy
    policy = load_settings(SitePolicy, path) if path else None
    prepared = prepare_sites(experiment, args, say)
    sites = {name: _with_policy(config, policy) if policy else config for name, config in prepared.sites.items()}
    return prepared.model_copy(update={"sites": sites, "environment": environment})


def start_here(prepared: PreparedRun, say: Say, **of_local_run) -> Run:
    """`of_local_run` is for experiments, as `LocalRun` says."""
    if prepared.environment == "sim":
        return Simulation(prepared.folder, prepared.spec, prepared.sites, prepared.start_from, prepared.track)
    import transformers  # takes seconds, as does LocalRun

    from fedrlvr.launch.local import LocalRun

    transformers.utils.logging.disable_progress_bar()  # it would break ours
    transformers.utils.logging.set_verbosity_error()
    return LocalRun(prepared.folder, prepared.spec, prepared.sites, start_from=prepared.start_from, **of_local_run)


def prepare_sites(
    experiment: ExperimentConfig, args: argparse.Namespace, say: Say, gpus_here: int | None = None
) -> PreparedRun:
    """Make a new folder for the run, write every site's problems, make or find the base model, and deal this machine's
    GPUs to the sites. `gpus_here` is how many there are; None: as many as torch sees."""
    task = task_named(experiment.task, experiment.verifier)
    _check_paths(experiment, args)
    if args.tiny and experiment.base_model:  # nobody shall take its adapter for one of the model that the preset is for
        experiment = experiment.model_copy(update={"model": f"tiny stand-in for {experiment.model}"})
    import torch  # only now, as what loads it, too: bad settings are told without it

    from fedrlvr.server.adapter_folder import read_adapter

    gpus = usable_gpus(experiment.site, torch.cuda.device_count() if gpus_here is None else gpus_here)
    if experiment.start_from is not None:
        read_adapter(experiment.start_from, experiment.lora)  # what is wrong with it is known before a model is made
    with fresh_folder(args.workspace.resolve(), experiment) as folder:
        names = site_problems(experiment, task, args, folder / "data")
        job = experiment.job(names)
        if METHODS[job.method].pooled_data:
            names = ["pooled"]
        model_path = site_model(experiment, task, args, say)
        dealt = deal(names, experiment.site.processes, gpus)
        if dealt:
            say(told(dealt, experiment.site.processes, gpus))
        sites = {name: site_config(name, experiment, folder, model_path, dealt.get(name)) for name in names}
        shared = (folder / "data" / f"{name}.jsonl" for name in SHARED_SETS)
        spec = spec_on(*shared, job, model_fingerprint(model_path))
        about = {"base_model": str(model_path), "start_from": experiment.start_from, "license": experiment.license}
        return PreparedRun(folder=folder, spec=spec, sites=sites, **about)


def _check_paths(experiment: ExperimentConfig, args: argparse.Namespace) -> None:
    """Raises an error of the first path that leads to nothing that could be used."""
    if not experiment.deepspeed.is_file():
        raise SettingsError(
            f"deepspeed: no such file: {experiment.deepspeed}; give a path, or {', '.join(shipped('deepspeed'))}"
        )
    first = experiment.start_from
    if first is not None and not (first / "adapter_config.json").is_file():
        raise SettingsError(
            f"start_from: {first} cannot be read as a PEFT directory with safetensors: it has no adapter_config.json"
        )
    if args.data is not None:
        sites_in(args.data)
    if args.model is not None:
        LocalModel(model_path=args.model.resolve()).check_model("--model")


def synthetic_task(task: Task) -> GeneratedTask:
    """The task that makes the problems for a dry run of `task`: often `task` itself."""
    synthetic = TASKS[SYNTHETIC[task.name]] if task.name in SYNTHETIC else task
    if not isinstance(synthetic, GeneratedTask):
        raise SettingsError(f"task: {task.name} makes no problems of its own; give --data")
    return synthetic


def site_problems(experiment: ExperimentConfig, task: Task, args: argparse.Namespace, folder: Path) -> list[str]:
    """Write every site's problem files under `folder`: copies from the folder of `--data` (with `--tiny` a few problems
    of each file), or generated problems. Returns the sites' names. Raises SettingsError without `--data` and settings
    to generate problems; also as `copy_prepared` and `write_generated`."""
    pooled = METHODS[experiment.method].pooled_data
    if args.data is not None:
        return copy_prepared(args.data, task, folder, pooled, experiment.data if args.tiny else None)
    if experiment.data is None:
        raise SettingsError(
            f"preset {experiment.name} is for real problems: give --data with a folder that `fedrlvr prepare` made, "
            "or --tiny for a dry run on generated ones"
        )
    write_generated(experiment.data, synthetic_task(task), experiment.seed, folder, pooled)
    write_manifest(folder, task, experiment.seed)
    return list(experiment.data.sites)


def site_model(experiment: ExperimentConfig, task: Task, args: argparse.Namespace, say: Say) -> Path:
    """The base model's directory: that of `--model`, with `--tiny` a small random model of its kind, or one made in the
    workspace. Raises SettingsError without `--model` and settings to make one, FileNotFoundError where no weights are.
    """
    models = args.workspace.resolve() / "models"
    if args.model is not None:
        source = args.model.resolve()
        LocalModel(model_path=source).check_model("--model")
        if not (args.tiny and experiment.base_model):
            return source
        from fedrlvr.tiny.small_models import shrunk_model  # takes seconds to import

        return shrunk_model(source, experiment.base_model, models)
    if experiment.base_model is None:
        raise SettingsError(
            f"preset {experiment.name} is for {experiment.model}: give --model with its directory, "
            "or --tiny for a dry run with a small one of its kind"
        )

    def progress(step: int, steps: int, loss: float) -> None:
        if step == 1:
            say(f"making the base model: {steps} supervised steps")
        elif step % 100 == 0:
            say(f"  step {step}/{steps}  loss {loss:.3f}")

    return base_model(task, synthetic_task(task), experiment.base_model, models, args.rebuild_model, progress)


def site_config(
    name: str, experiment: ExperimentConfig, folder: Path, model_path: Path, gpus: tuple[int, ...] | None = None
) -> SiteConfig:
    """The settings that a real site would write into its own file. `folder` is the run's."""
    data = folder / "data"
    heldout = data / f"{name}{HELDOUT}.jsonl"
    return SiteConfig(
        **dict(experiment.site) | {"gpus": gpus},
        model=experiment.model,
        model_path=model_path,
        private_problems=data / f"{name}.jsonl",
        heldout_problems=heldout if heldout.exists() else None,
        public_problems=data / "public.jsonl",
        test_problems=data / "test.jsonl",
        deepspeed_config=experiment.deepspeed,
        state_dir=folder / "sites" / name,
    )


def _with_policy(config: SiteConfig, policy: SitePolicy) -> SiteConfig:
    """Give a simulated site its own copy of the policy, with its log and ledger in the site's own folder."""
    training = policy.training.model_copy(update={"secret_draws": False})  # a simulated run must repeat
    own = policy.model_copy(update={"log": Path("egress.jsonl"), "ledger": Path("ledger.jsonl"), "training": training})
    path = config.state_dir / "policy.yaml"
    own.write(path)
    return config.model_copy(update={"policy": path})
