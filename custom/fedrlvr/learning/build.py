"""Build a site's trainer from the job's settings, the site's own file, and the problem files that it names."""

import os

import torch

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.config import JobConfig
from fedrlvr.data.problems import manifest_hash, read_measured, read_problems
from fedrlvr.learning.dp_step import DpStep
from fedrlvr.learning.engine import Engine, read_deepspeed_config, zero_stage
from fedrlvr.learning.generator import Generator
from fedrlvr.learning.grpo_step import GrpoStep
from fedrlvr.learning.model import Policy, load_policy
from fedrlvr.learning.prompt_length import fitting, prompt_limit
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.learning.trainer import SiteProblems, Trainer
from fedrlvr.protocol.refused import NotAgreed
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site_config import LocalModel, SiteConfig
from fedrlvr.tasks import Task, check_package, task_named
from fedrlvr.types import Problem


def build_trainer(
    spec: RunSpec, site: str, config: SiteConfig, ranks: Ranks, propose_from: str = "local", draws_key: str = ""
) -> Trainer:
    """Check the input, load the model and start DeepSpeed. Raises ValueError where the job and the site's file,
    problems or model do not fit together."""
    job, grpo = spec.job, spec.job.grpo
    if config.model != job.model:
        raise ValueError(f"model: the job is for {job.model!r}, this site's file offers {config.model!r}")
    _check_rank(config, job)
    config.check_paths()
    if reason := check_package(job.task, spec.task_package):  # again, as the worker may run in a container of its own
        raise ValueError(reason)
    task = task_named(job.task, job.verifier, job.prompt)
    problems = read_site_problems(config, task, spec)
    deepspeed_config = read_deepspeed_config(config.deepspeed_config)
    device = choose_device(config)
    if zero_stage(deepspeed_config) == 3:
        _check_divided(config, job)
        device = torch.device("cpu")  # DeepSpeed moves to the GPU what this rank keeps
    policy = load_policy(config, job.lora, job.prompt, device)
    engine = Engine(policy, job.optimizer, deepspeed_config, grpo.temperature, config.lora_rank)
    generator = build_generator(policy, config, ranks)
    limit = prompt_limit(policy.max_length, grpo)
    rollouts = Rollouts(policy, generator, task, ranks, grpo.max_completion_length, grpo.temperature, limit)
    problems, too_long = fitting(problems, rollouts)
    engine.adapter_changed = generator.adapter_changed
    step = GrpoStep(engine, task, grpo, ranks, config.micro_batch_size, job.swap)
    dp_step = DpStep(step, job.privacy) if job.privacy.mode == "dp_grpo" else None
    return Trainer(job, site, problems, rollouts, step, dp_step, propose_from, draws_key, too_long)


def _check_rank(config: SiteConfig, job: JobConfig) -> None:
    """The first ranks are the best part of an adapter only where `svd` has sorted them."""
    if (rank := config.lora_rank) is None:
        return
    if rank > job.lora.r:
        raise ValueError(f"lora_rank: this site's file says {rank}, but the job's lora.r is {job.lora.r}; lower it")
    if job.federation.aggregator != "svd":
        raise ValueError(
            f"lora_rank: {rank} needs federation.aggregator: svd, which sorts an adapter's ranks; the job has "
            f"{job.federation.aggregator}: set lora_rank to null, or leave the job"
        )
    if job.optimizer.weight_decay > 0:
        raise ValueError(
            f"lora_rank: the job's optimizer.weight_decay {job.optimizer.weight_decay:g} would move the ranks that are "
            "not trained; set lora_rank to null"
        )


def _check_divided(config: SiteConfig, job: JobConfig) -> None:
    if job.privacy.mode == "dp_grpo":
        raise ValueError(f"{config.deepspeed_config}: dp_grpo needs gradients of whole weights; use ZeRO stage 2")
    if config.rollout.engine != "cached":
        raise ValueError(
            f"{config.deepspeed_config}: rollout.engine {config.rollout.engine} needs whole weights; use ZeRO stage 2, "
            "or rollout.engine cached"
        )
    if config.load_in_4bit:
        raise ValueError(f"{config.deepspeed_config}: load_in_4bit was not tried with ZeRO stage 3; use ZeRO stage 2")


def build_generator(policy: Policy, config: SiteConfig, ranks: Ranks) -> Generator:
    """The rollout engine that the site's file names. Raises ValueError where it cannot sample from this model, and
    RuntimeError where its server does not start."""
    match config.rollout.engine:
        case "cached":
            return CachedSampler(policy, config.generation_batch_size)
        case "continuous":
            from fedrlvr.learning.continuous import ContinuousEngine

            return ContinuousEngine(policy, config.generation_batch_size)
        case "vllm":
            from fedrlvr.learning.vllm_engine import VllmEngine

            return VllmEngine(policy, config, ranks)


def read_site_problems(config: SiteConfig, task: Task, spec: RunSpec) -> SiteProblems:
    """Read the site's problem files, and check that the public and the test set are the agreed ones. Raises
    ProblemFileError for a file that cannot be used, and NotAgreed for another public or test set."""
    public = read_problems(config.public_problems, task)
    _check_agreed("public", public, spec.public_sha256)
    test = read_measured(config.test_problems, task)
    _check_agreed("test", test, spec.test_sha256)
    if [p.id for p in public] != [*spec.public_ids] or [p.label for p in test] != [*spec.test_labels]:
        raise NotAgreed("the job's public_ids or test_labels are not those of the agreed problems; submit it again")
    with_private = METHODS[spec.job.method].private_data
    return SiteProblems(
        private=read_problems(config.private_problems, task) if with_private else public,
        public={problem.id: problem for problem in public},
        test=test,
        heldout=read_measured(config.heldout_problems, task) if config.heldout_problems else [],
    )


def _check_agreed(name: str, problems: list[Problem], sha256: str) -> None:
    if (own := manifest_hash(problems)) != sha256:
        raise NotAgreed(
            f"{name}_problems differs: the job is for manifest hash {sha256}, this site has {own}; get the {name} file "
            "that the consortium agreed on"
        )


def choose_device(config: LocalModel) -> torch.device:
    """The CPU, or this rank's GPU. Raises ValueError where GPUs are asked for and not there."""
    number = gpu_of_rank(config, torch.cuda.device_count())
    if number is None:
        return torch.device("cpu")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def gpu_of_rank(config: LocalModel, count: int) -> int | None:
    """Which of `count` GPUs is this rank's; None for the CPU. With more ranks than GPUs they share them. DeepSpeed,
    which goes by the same variable, is told, too. Raises ValueError as `choose_device`."""
    named = config.gpus or ()
    if config.device == "cpu" or (config.device == "auto" and not count and not named):
        return None
    if len(named) > count:
        raise ValueError(f"gpus: {len(named)} are named, but torch finds {count}; see what nvidia-smi shows")
    if not count:
        raise ValueError("device: cuda is set, but torch finds no GPU; use cpu or auto")
    number = int(os.environ.get("LOCAL_RANK", "0")) % count
    os.environ["LOCAL_RANK"] = str(number)
    return number
