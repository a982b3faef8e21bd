"""A rehearsal of a job at a site: ten completions, the verifier's word on each, and one step that changes nothing."""

from pathlib import Path

import psutil

from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.config import JobConfig
from fedrlvr.data.problems import json_lines
from fedrlvr.learning.prompt_length import limit_in
from fedrlvr.printable import one_line
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.processes import reachable_ports
from fedrlvr.protocol.records import Envelope, Segment
from fedrlvr.protocol.requests import SubmitRequest, TrainRequest
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.settings_file import load_settings
from fedrlvr.site.admission import check_admitted
from fedrlvr.site.checks import Finding
from fedrlvr.site.trial import TrialFailed, trial
from fedrlvr.site_config import COMPLETIONS, SiteConfig
from fedrlvr.tasks.task import CUT_OFF, UNANSWERED

PROBLEMS, GENERATIONS = 5, 2
SHOWN = 160  # characters of a completion's end
LONGER = "private and public ones are left out, others count as not solved; see grpo.max_prompt_length"
REACHABLE = "leave it out on one machine; for several, let a firewall keep all others away (poc/README.md)"
SILENT = "show the model how an answer looks (prompt.instruction, prompt.examples); without one every reward is 0"
TOO_SHORT = "raise grpo.max_completion_length: what is cut off has seldom come to its answer"
TOO_HARD = "right answers may be too rare to learn from: try easier problems, prompt.examples, a larger model"


def rehearse(spec: RunSpec, config: SiteConfig) -> list[Finding]:
    """Start every rank, load model and problems, sample ten completions of private problems as the job would, take an
    optimizer step at learning rate 0, and see that the adapter has not moved and that the worker listens to this
    machine only. It leaves no file and no process. Raises TrialFailed, and ValueError as `limit_in`."""
    limit = limit_in(config.model_path, spec.job.grpo)
    job, here = _small(spec.job, config.processes), Envelope.here(spec.public_sha256, 0)
    logging = config.model_copy(update={"completion_log_mb": max(1, config.completion_log_mb)})
    with trial(spec.model_copy(update={"job": job}), logging) as (ready, ask, folder):
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
        written = judged(folder / COMPLETIONS)
    done = (
        f"{step['completions']:.0f} completions of at most {job.grpo.max_completion_length} tokens and a step at "
        f"learning rate 0 in {step['step_time']:.1f} s, {sum(tensor.numel() for tensor in adapter.values()):,} LoRA "
        "parameters"
    )
    if ready.too_long:
        counts = ", ".join(f"{count} {name}" for name, count in ready.too_long.items())
        done += f"; prompts of more than {limit} tokens: {counts}"
    fewer = _refusal(spec.job, config, ready.private_problems) if "private" in ready.too_long else []
    if ports:
        done += f"; other machines can connect to the worker: {', '.join(ports)}"
        return [Finding("rehearsal", "warning", done, f"worker.launch: {REACHABLE}"), written, *fewer]
    if ready.too_long:
        return [Finding("rehearsal", "warning", done, LONGER), written, *fewer]
    return [Finding("rehearsal", "ok", done), written]


def _refusal(job: JobConfig, config: SiteConfig, private_problems: int) -> list[Finding]:
    """Why the site would refuse the job with these problems only; empty where it would not."""
    if config.policy is None:
        return []
    found = check_admitted(job, config, load_settings(SitePolicy, config.policy), private_problems)
    return [found] if found.status == "failed" else []


def judged(path: Path) -> Finding:
    """What the verifier says of the completions in this log, each with its end."""
    lines = [line for _, line in json_lines(path)] if path.exists() else []
    count = len(lines)
    right = sum(line["reward"] >= 1 for line in lines)
    answered = count - sum(line["reason"] in UNANSWERED for line in lines)
    cut = sum(line["truncated"] for line in lines)
    unverified = sum(line["reason"] in CUT_OFF for line in lines)
    parts = [f"{right} of {count} right, {answered} with an answer, {cut} cut off, {unverified} not verified"]
    for line in lines:
        text = one_line(line["text"])
        cut_off = ", cut off" if line["truncated"] else ""
        parts.append(f"{line['problem_id']}: {line['reason']}{cut_off}: {'...' * (len(text) > SHOWN)}{text[-SHOWN:]}")
    faults = {TOO_SHORT: cut > count / 2, SILENT: answered < count / 2, TOO_HARD: not right}
    remedies = [remedy for remedy, there in faults.items() if there]
    return Finding("completions", "warning" if remedies else "ok", "\n".join(parts), "; ".join(remedies))


def _small(job: JobConfig, processes: int) -> JobConfig:
    changes = {
        "grpo": {"num_generations": GENERATIONS, "prompts_per_step": max(PROBLEMS, processes)},
        "optimizer": {"learning_rate": 0.0},
        "swap": {"keep_incorrect": 1},
    }
    # With a divergence term every completion takes part in the step: right, wrong or cut off.
    changes["grpo"] |= {"num_iterations": 1, "num_minibatches": 1, "beta": 0.01, "mask_truncated_completions": False}
    values = job.model_dump()
    return JobConfig(**values | {name: values[name] | change for name, change in changes.items()})
