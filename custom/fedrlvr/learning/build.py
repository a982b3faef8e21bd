"""Build a site's trainer from the job's settings and the site's own file."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedrlvr.data.tokenizer import PromptError
from fedrlvr.learning.dp_step import DpStep
from fedrlvr.learning.engine import Engine, read_deepspeed_config
from fedrlvr.learning.grpo_step import GrpoStep
from fedrlvr.learning.model import Policy, load_policy
from fedrlvr.learning.problems import read_site_problems
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.learning.trainer import Trainer
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site_config import LocalModel, SiteConfig
from fedrlvr.tasks import Task, task_named
from fedrlvr.types import Problem


def build_trainer(spec: RunSpec, site: str, config: SiteConfig, ranks: Ranks, propose_from: str = "local") -> Trainer:
    """Check the input, load the model and start DeepSpeed.

    Raises:
        ValueError: the job and the site's file, problems or model do not fit together.
    """
    job = spec.job
    if config.model != job.model:
        raise ValueError(f"model: the job is for {job.model!r}, this site's file offers {config.model!r}")
    config.check_paths()
    task = task_named(job.task, job.verifier)
    problems = read_site_problems(config, task, spec.public_sha256)
    deepspeed_config = read_deepspeed_config(config.deepspeed_config)
    device = choose_device(config, ranks)
    policy = load_policy(config, job.lora, job.prompt, device)
    for name, members in (
        ("private_problems", problems.private),
        ("public_problems", list(problems.public.values())),
        ("test_problems", problems.test),
        ("heldout_problems", problems.heldout),
    ):
        check_prompts(name, members, policy, task, job.grpo.max_completion_length)
    engine = Engine(policy, job.optimizer, deepspeed_config, job.grpo.temperature)
    rollouts = Rollouts(
        policy,
        CachedSampler(policy, config.generation_batch_size),
        task,
        ranks,
        job.grpo.max_completion_length,
        job.grpo.temperature,
        keep_logprobs=config.dtype == "float32",
    )
    step = GrpoStep(engine, task, job.grpo, ranks, config.micro_batch_size)
    dp_step = DpStep(step, job.privacy) if job.privacy.mode == "dp_grpo" else None
    return Trainer(job, site, problems, engine, rollouts, step, dp_step, propose_from)


def check_prompts(
    name: str, problems: Sequence[Problem], policy: Policy, task: Task, max_completion_length: int
) -> int:
    """Find a prompt that this model cannot take now and not hours later. Returns the longest prompt's number of tokens.

    Raises:
        ValueError: text with a control token, or no room for the completion. The error has the problem's place in the
            set `name` and never its text: errors reach the server.
    """
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
