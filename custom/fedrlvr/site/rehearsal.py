"""A rehearsal of a job at a site: three tokens, and one step that changes nothing."""

import psutil

from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.config import JobConfig
from fedrlvr.learning.prompt_length import limit_in
from fedrlvr.processes import reachable_ports
from fedrlvr.protocol.records import Envelope, Segment
from fedrlvr.protocol.requests import SubmitRequest, TrainRequest
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site.checks import Finding
from fedrlvr.site.trial import TrialFailed, trial
from fedrlvr.site_config import SiteConfig

TOKENS = 3
LONGER = "private and public ones are left out, others count as not solved; see grpo.max_prompt_length"
REACHABLE = "leave it out on one machine; for several, let a firewall keep all others away (poc/README.md)"


def rehearse(spec: RunSpec, config: SiteConfig) -> Finding:
    """Start every rank, load model and problems, sample `TOKENS` tokens a completion, take an optimizer step at
    learning rate 0, and see that the adapter has not moved and that the worker listens to this machine only. It leaves
    no file and no process. Raises TrialFailed, and ValueError as `limit_in`."""
    limit = limit_in(config.model_path, spec.job.grpo)
    job, here = _small(spec.job, config.processes, limit), Envelope.here(spec.public_sha256, 0)
    with trial(spec.model_copy(update={"job": job}), config) as (ready, ask):
        adapter = initial_adapter(ready.adapter_spec, job.seed)
        asked = {"segments": [Segment(0, 1, ())], "exchange": False, "begin_round": True}
        train = TrainRequest(envelope=here, **asked, adapter_spec=spec_hash(ready.adapter_spec, job.lora))
        step = ask(train, adapter)[0].steps[0].metrics
        _, delta = ask(SubmitRequest(envelope=here))
        ports = reachable_ports(psutil.Process())
        if step["optimizer_steps"] < 1:
            raise TrialFailed("no optimizer step was taken")
        moved = sum(float(tensor.abs().sum()) for tensor in delta.values())
        if moved != 0.0:
            raise TrialFailed(f"a step at learning rate 0 moved the adapter by {moved:g}")
    done = (
        f"{step['completions']:.0f} completions of {TOKENS} tokens and a step at learning rate 0 in "
        f"{step['step_time']:.1f} s, {sum(tensor.numel() for tensor in adapter.values()):,} LoRA parameters"
    )
    if ready.too_long:
        counts = ", ".join(f"{count} {name}" for name, count in ready.too_long.items())
        done += f"; prompts of more than {limit} tokens: {counts}"
    if ports:
        done += f"; other machines can connect to the worker: {', '.join(ports)}"
        return Finding("rehearsal", "warning", done, f"worker.launch: {REACHABLE}")
    if ready.too_long:
        return Finding("rehearsal", "warning", done, LONGER)
    return Finding("rehearsal", "ok", done)


def _small(job: JobConfig, prompts: int, limit: int | None) -> JobConfig:
    changes = {
        "grpo": {"num_generations": 2, "prompts_per_step": prompts, "max_completion_length": TOKENS},
        "optimizer": {"learning_rate": 0.0},
        "swap": {"keep_incorrect": 1},
    }
    # With a divergence term every completion takes part in the step: right, wrong or cut off.
    changes["grpo"] |= {"max_prompt_length": limit}
    changes["grpo"] |= {"num_iterations": 1, "num_minibatches": 1, "beta": 0.01, "mask_truncated_completions": False}
    values = job.model_dump()
    return JobConfig(**values | {name: values[name] | change for name, change in changes.items()})
