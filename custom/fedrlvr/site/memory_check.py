"""The memory that this job's steps need at this site, against what there is."""

import math

import torch

from fedrlvr.config import JobConfig
from fedrlvr.data.problems import read_problems
from fedrlvr.data.tokenizer import brief, load_tokenizer, prompt_ids
from fedrlvr.learning.engine import read_deepspeed_config, zero_stage
from fedrlvr.learning.memory import free_memory, share_of_rows
from fedrlvr.learning.prompt_length import limit_in
from fedrlvr.learning.requirement import Requirement, requirement
from fedrlvr.site.checks import GIB, Finding
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import task_named

REMEDIES = {  # by the part that needs most
    "weights": "dtype: bfloat16, more processes under ZeRO stage 3, or a smaller model",
    "adapter": "a smaller lora.r in the job, or ZeRO stage 2 with more processes",
    "sampling": "a smaller generation_batch_size",
    "training": "a smaller micro_batch_size, or gradient_checkpointing: true",
}


def check_step_memory(config: SiteConfig, job: JobConfig) -> Finding:
    """Whether sampling and training fit, and which setting to lower if not. Raises ValueError for a DeepSpeed file or a
    problem that cannot be used."""
    gpus = [] if config.device == "cpu" else list(config.gpus or range(torch.cuda.device_count()))[: config.processes]
    devices = [torch.device("cuda", gpu) for gpu in gpus] or [torch.device("cpu")]
    least, free = min(((device, free_memory(device)) for device in devices), key=lambda found: found[1])
    free /= math.ceil(config.processes / len(devices))  # ranks that share a device share its memory
    stage, longest = zero_stage(read_deepspeed_config(config.deepspeed_config)), longest_prompt(config, job)
    try:
        need = requirement(config, job, stage, longest, free * share_of_rows(least))
    except Exception as error:  # each architecture has its own
        return Finding("step memory", "warning", f"cannot be worked out for this model: {brief(error)}")
    return verdict(need, free, f"GPU {least.index}" if gpus else "this machine")


def longest_prompt(config: SiteConfig, job: JobConfig) -> int:
    """In tokens, of the problems that are trained on."""
    task, tokenizer = task_named(job.task, job.verifier, job.prompt), load_tokenizer(config.model_path)
    problems = [*read_problems(config.private_problems, task), *read_problems(config.public_problems, task)]
    longest = max(len(prompt_ids(tokenizer, task.prompt(problem), settings=job.prompt)) for problem in problems)
    limit = limit_in(config.model_path, job.grpo)
    return longest if limit is None else min(longest, limit)


def verdict(need: Requirement, free: float, where: str) -> Finding:
    total = need.total(on_gpu=where.startswith("GPU"))
    parts = {name: getattr(need, name) / GIB for name in REMEDIES}
    told = ", ".join(f"{name} {size:.1f}" for name, size in parts.items())
    text = f"about {total / GIB:.1f} of {free / GIB:.1f} GiB free on {where} for a rank's step: {told}"
    text += f"; {need.rows} completions sampled at once" if need.rows else ""
    return Finding("step memory", "ok" if total <= free else "failed", text, REMEDIES[max(parts, key=parts.get)])
