"""A site's worker started as a job would start it, for three tokens and one step that changes nothing."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedrlvr.algorithms.lora import initial_adapter, spec_hash
from fedrlvr.config import JobConfig
from fedrlvr.protocol.answers import Answer, Failure
from fedrlvr.protocol.records import Envelope, Segment
from fedrlvr.protocol.requests import SubmitRequest, TrainRequest
from fedrlvr.protocol.run_spec import RunSpec
from fedrlvr.site.fingerprint import model_fingerprint
from fedrlvr.site_config import SiteConfig
from fedrlvr.worker.setup import SetUp
from fedrlvr.worker.supervisor import Supervisor

TOKENS = 3


class RehearsalFailed(RuntimeError):
    """The worker cannot be started, or cannot take a step; with the end of its log."""


@dataclass(frozen=True)
class WorkerRehearsal:
    """What happened: trainable parameters, completions sampled, optimizer steps taken, seconds of the step."""

    parameters: int
    completions: int
    optimizer_steps: int
    seconds: float


def rehearse(spec: RunSpec, config: SiteConfig) -> WorkerRehearsal:
    """Start every rank, load model and problems, sample `TOKENS` tokens a completion, take an optimizer step at
    learning rate 0, and see that the adapter has not moved. Leaves no file and no process behind.

    Raises:
        RehearsalFailed: with the reason.
    """
    small = spec.model_copy(update={"job": _small(spec.job, config.processes)})
    with tempfile.TemporaryDirectory(prefix="fedrlvr-doctor-") as folder:
        elsewhere = config.model_copy(update={"state_dir": Path(folder)})
        fingerprint = model_fingerprint(config.model_path)
        worker = Supervisor(SetUp(spec=small, site="doctor", site_config=elsewhere, base_model=fingerprint))
        try:
            return _run(worker, small)
        except RehearsalFailed as error:
            raise RehearsalFailed(f"{error}{_end_of(worker.log_path)}") from None
        finally:
            worker.stop()


def _small(job: JobConfig, prompts: int) -> JobConfig:
    changes = {
        "grpo": {"num_generations": 2, "prompts_per_step": prompts, "max_completion_length": TOKENS},
        "optimizer": {"learning_rate": 0.0},
        "swap": {"keep_incorrect": 1},
    }
    # With a divergence term every completion takes part in the step: right, wrong or cut off.
    changes["grpo"] |= {"num_iterations": 1, "num_minibatches": 1, "beta": 0.01, "mask_truncated_completions": False}
    values = job.model_dump()
    return JobConfig(**values | {name: values[name] | change for name, change in changes.items()})


def _run(worker: Supervisor, spec: RunSpec) -> WorkerRehearsal:
    ready, here = _good(worker.start()), Envelope.here(spec.public_sha256, 0)
    adapter = initial_adapter(ready.adapter_spec, spec.job.seed)
    train = TrainRequest(
        envelope=here,
        segments=[Segment(0, 1, ())],
        exchange=False,
        begin_round=True,
        adapter_spec=spec_hash(ready.adapter_spec, spec.job.lora),
    )
    step = _good(worker.ask(train, adapter)[0]).steps[0].metrics
    submitted, delta = worker.ask(SubmitRequest(envelope=here))
    _good(submitted)
    moved = sum(float(tensor.abs().sum()) for tensor in delta.values())
    if step["optimizer_steps"] < 1:
        raise RehearsalFailed("no optimizer step was taken")
    if moved != 0.0:
        raise RehearsalFailed(f"a step at learning rate 0 moved the adapter by {moved:g}")
    parameters = sum(tensor.numel() for tensor in adapter.values())
    return WorkerRehearsal(parameters, int(step["completions"]), int(step["optimizer_steps"]), step["step_time"])


def _good(answer: Answer | Failure):
    if isinstance(answer, Failure):
        raise RehearsalFailed(answer.reason)
    return answer


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-5:] if log.exists() else []
    return "".join(f"\n  {line[:300]}" for line in lines)
