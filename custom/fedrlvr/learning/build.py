"""Build a site's trainer from the job's settings, the site's own file, and the problem files that it names."""

from pathlib import Path

import torch

from fedrlvr.data.problems import manifest_hash, read_measured, read_problems
from fedrlvr.data.tokenizer import PromptError
from fedrlvr.learning.dp_step import DpStep
from fedrlvr.learning.engine import Engine, read_deepspeed_config
from fedrlvr.learning.generator import Generator
from fedrlvr.learning.grpo_step import GrpoStep
from fedrlvr.learning.model import Policy, load_policy
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.learning.trainer import SiteProblems, Trainer
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site_config import LocalModel, SiteConfig
from fedrlvr.tasks import Task, task_named
from fedrlvr.types import Problem


def build_trainer(
    spec: RunSpec, site: str, config: SiteConfig, ranks: Ranks, propose_from: str = "local", draws_key: str = ""
) -> Trainer:
    """Check the input, load the model and start DeepSpeed. Raises ValueError where the job and the site's file,
    problems or model do not fit together."""
    job, grpo = spec.job, spec.job.grpo
    if config.model != job.model:
        raise ValueError(f"model: the job is for {job.model!r}, this site's file offers {config.model!r}")
    config.check_paths()
    task = task_named(job.task, job.verifier)
    problems = read_site_problems(config, task, spec)
    deepspeed_config = read_deepspeed_config(config.deepspeed_config)
    device = choose_device(config, ranks)
    policy = load_policy(config, job.lora, job.prompt, device)
    for name, members in (vars(problems) | {"public": list(problems.public.values())}).items():
        check_prompts(f"{name}_problems", members, policy, task, grpo.max_completion_length)
    generator = build_generator(policy, config, ranks)
    engine = Engine(policy, job.optimizer, deepspeed_config, grpo.temperature)
    engine.adapter_changed = generator.adapter_changed
    rollouts = Rollouts(policy, generator, task, ranks, grpo.max_completion_length, grpo.temperature)
    step = GrpoStep(engine, task, grpo, ranks, config.micro_batch_size)
    dp_step = DpStep(step, job.privacy) if job.privacy.mode == "dp_grpo" else None
    return Trainer(job, site, problems, rollouts, step, dp_step, propose_from, draws_key)


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
    ProblemFileError for a file that cannot be used, and ValueError for another public or test set."""
    public = read_problems(config.public_problems, task)
    _check_agreed("public", config.public_problems, public, spec.public_sha256)
    test = read_measured(config.test_problems, task)
    _check_agreed("test", config.test_problems, test, spec.test_sha256)
    if [p.id for p in public] != [*spec.public_ids] or [p.label for p in test] != [*spec.test_labels]:
        raise ValueError("the job's public_ids or test_labels are not those of the agreed problems; submit it again")
    return SiteProblems(
        private=read_problems(config.private_problems, task),
        public={problem.id: problem for problem in public},
        test=test,
        heldout=read_measured(config.heldout_problems, task) if config.heldout_problems else [],
    )


def _check_agreed(name: str, path: Path, problems: list[Problem], sha256: str) -> None:
    if (own := manifest_hash(problems)) != sha256:
        raise ValueError(
            f"{name}_problems: {path} has manifest hash {own}, the job says {sha256}; get the {name} file that the "
            "consortium agreed on"
        )


def check_prompts(name: str, problems: list[Problem], policy: Policy, task: Task, max_completion_length: int) -> int:
    """Find a prompt that this model cannot take: now, not hours later. Returns the longest prompt's number of tokens.
    Raises ValueError for text with a control token, or without room for the completion; it has the problem's place in
    the set `name` and never its text, as errors reach the server."""
    longest = 0
    for number, problem in enumerate(problems, start=1):
        try:
            length = len(policy.encode_prompt(task.prompt(problem)))
        except PromptError as error:
            raise ValueError(f"{name}, problem {number}: {error}") from None
        if policy.max_length is not None and length + max_completion_length > policy.max_length:
            raise ValueError(
                f"{name}, problem {number}: its prompt of {length} tokens and max_completion_length = "
                f"{max_completion_length} exceed the {policy.max_length} positions of the model"
            )
        longest = max(longest, length)
    return longest


def choose_device(config: LocalModel, ranks: Ranks) -> torch.device:
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("device: cuda is set, but torch finds no GPU; use cpu or auto")
    local = ranks.rank % torch.cuda.device_count()
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
