"""A site's worker started as a job would start it, for three tokens and one step that changes nothing."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.config import JobConfig
from fedrlvr.site_config import SiteConfig
from fedrlvr.worker.supervisor import Supervisor, WorkerError

TOKENS = 3


@dataclass(frozen=True)
class Rehearsal:
    """What happened: trainable parameters, completions sampled, optimizer steps taken, seconds of the step."""

    parameters: int
    completions: int
    optimizer_steps: int
    seconds: float


def rehearse(job: JobConfig, config: SiteConfig, manifest: str) -> Rehearsal:
    """Start every rank, load model and problems, sample `TOKENS` tokens a completion, take an optimizer step at
    learning rate 0, and see that the adapter has not moved. Leaves no file and no process behind.

    Raises:
        WorkerError: with the reason and, where the worker died, its last words.
    """
    changes = {
        "grpo": {"num_generations": 2, "prompts_per_step": config.processes, "max_completion_length": TOKENS},
        "optimizer": {"learning_rate": 0.0},
        "swap": {"keep_incorrect": 1},
    }
    # With a divergence term every completion takes part in the step: right, wrong or cut off.
    changes["grpo"] |= {"num_iterations": 1, "num_minibatches": 1, "beta": 0.01, "mask_truncated_completions": False}
    small = JobConfig(**_merged(job.model_dump(), changes))
    with tempfile.TemporaryDirectory(prefix="fedrlvr-doctor-") as folder:
        supervisor = Supervisor(small, "doctor", config.model_copy(update={"state_dir": Path(folder)}), manifest)
        try:
            return _run(supervisor, small)
        except WorkerError as error:
            raise WorkerError(f"{error}{_last_words(supervisor.log_path)}") from None
        finally:
            supervisor.stop()


def _run(supervisor: Supervisor, job: JobConfig) -> Rehearsal:
    supervisor.start()
    adapter = initial_adapter(supervisor.adapter_spec, job.seed)
    segment = {"index": 0, "private_steps": 1, "public_ids": []}
    answer, _ = supervisor.request(
        {"task": "train", "segments": [segment], "exchange": False, "begin_round": True, "round": 0}, adapter
    )
    step = answer["metrics"][0]
    _, delta = supervisor.request({"task": "submit", "round": 0})
    moved = sum(float(tensor.abs().sum()) for tensor in delta.values())
    if step["optimizer_steps"] < 1:
        raise WorkerError("no optimizer step was taken")
    if moved != 0.0:
        raise WorkerError(f"a step at learning rate 0 moved the adapter by {moved:g}")
    parameters = sum(tensor.numel() for tensor in adapter.values())
    return Rehearsal(parameters, int(step["completions"]), int(step["optimizer_steps"]), step["step_time"])


def _merged(values: dict, changes: dict) -> dict:
    return values | {name: values[name] | change for name, change in changes.items()}


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-5:] if log.exists() else []
    return "".join(f"\n  {line[:300]}" for line in lines)
