"""What this machine's GPU does: whether the engine computes on it what it should, how fast, and in how much memory.

    python tests/benchmarks/gpu.py --out gpu.json
    python tests/benchmarks/gpu.py --model SMOLLM2-DIR --out gpu.json
    python tests/benchmarks/gpu.py --cpu          # the same at a tiny shape, to try it

In bfloat16, LoRA r 16 on every linear layer, 8 prompts x 8 completions of full length, one process: a random model of
Qwen3-1.7B's shape, and the model of `--model`. Beside it TRL, if it is installed. It prints a table, writes JSON, and
begins nothing new after `--minutes`. It needs no more of the package's requirements than a worker does.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from step import (
    GROUP,
    LEARNING_RATE,
    PROMPTS,
    SMALL,
    Alternating,
    Workload,
    job_settings,
    most_memory,
    save_model,
    trl_trainer,
)

from fedrlvr.config import JobConfig, PromptSettings
from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.build import build_generator
from fedrlvr.learning.engine import Engine
from fedrlvr.learning.grpo_step import GrpoStep
from fedrlvr.learning.model import Policy, load_policy
from fedrlvr.learning.packing import pack
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.rollouts import Rollouts
from fedrlvr.site_config import RolloutSettings, SiteConfig
from fedrlvr.types import Group, Problem

QWEN3 = {  # Qwen3-1.7B
    "num_hidden_layers": 28,
    "vocab_size": 151_936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
}
LIMITS = {"bfloat16": 0.2, "float32": 1e-3}  # of mean differences of log-probabilities, in nats


@dataclass
class Run:
    """What is measured on a device, line by line, until the time is over."""

    device: torch.device
    dtype: str
    until: float
    vllm: Path | None  # the Python of its virtual environment
    lines: list[dict] = field(default_factory=list)

    def add(self, model: str, what: str, value: float | None, unit: str, **more) -> None:
        self.lines.append({"model": model, "what": what, "value": value, "unit": unit} | more)
        note = f"  {more}" if more else ""
        shown = "-" if value is None else f"{value:.4g}"
        print(f"{model:<22}{what:<46}{shown:>14} {unit}{note}", flush=True)

    def try_(self, model: str, what: str, act: Callable[[], None]) -> None:
        """What fails, or would begin too late, is a line of the table and not the end."""
        if time.monotonic() > self.until:
            self.add(model, what, None, "", skipped="no time left")
            return
        try:
            act()
        except Exception as error:
            self.add(model, what, None, "", failed=f"{type(error).__name__}: {str(error)[:200]}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def timed(self) -> Iterator[dict]:
        """Seconds of the block, and the most memory that was held in it."""
        found: dict = {}
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        yield found
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        found["seconds"] = time.perf_counter() - began
        held = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else most_memory()
        found["GB"] = round(held / 1e9, 2)


def matrix_rate(run: Run) -> float:
    """Operations a second of one large matrix product."""
    size = 8192 if run.device.type == "cuda" else 512
    a, b = torch.randn((2, size, size), device=run.device, dtype=getattr(torch, run.dtype))
    a @ b
    with run.timed() as found:
        for _ in range(20):
            a @ b
    return 20 * 2 * size**3 / found["seconds"]


class Subject:
    """One model, its engine and its task, with all completions of full length."""

    def __init__(self, run: Run, name: str, path: Path, length: int, prompt: int, rows: int):
        self.run, self.name, self.length = run, name, length
        self.job = JobConfig(**job_settings(length))
        unused = dict.fromkeys(("private_problems", "public_problems", "test_problems", "deepspeed_config"), path)
        hardware = {"dtype": run.dtype, "micro_batch_size": rows}
        self.site = SiteConfig(model=name, model_path=path, state_dir=tempfile.mkdtemp(), **hardware, **unused)
        policy = load_policy(self.site, self.job.lora, PromptSettings(), run.device)
        self.policy: Policy = replace(policy, eos_ids=(-1,))
        self.engine = Engine(self.policy, self.job.optimizer, {"zero_optimization": {"stage": 0}}, 1.0)
        random = torch.Generator().manual_seed(0)
        self.engine.load_adapter(
            {n: torch.randn(t.shape, generator=random) * 0.01 for n, t in self.engine.adapter().items()}
        )
        words = [" ".join(f"w{3 + (37 * i + 11 * j) % 400}" for j in range(prompt)) for i in range(PROMPTS)]
        self.problems = [Problem(str(i), text, "") for i, text in enumerate(words)]
        self.weights = sum(p.numel() for p in self.policy.model.parameters())
        self.groups: list[Group] = []

    def measure(self, rate: float, beside_trl: bool) -> None:
        for engine in get_args(RolloutSettings.model_fields["engine"].annotation):
            if engine == "vllm" and self.run.vllm is None:
                self.run.add(self.name, f"sampling, {engine}", None, "", skipped="no --vllm")
                continue
            self.run.try_(self.name, f"sampling, {engine}", lambda engine=engine: self.sampling(engine, rate))
        self.run.try_(self.name, "log-probabilities", self.agreement)
        self.run.try_(self.name, "training", lambda: self.training(rate))
        if not beside_trl:
            return
        if find_spec("trl") is None or find_spec("datasets") is None:
            self.run.add(self.name, "TRL", None, "", skipped="trl or datasets is not installed")
        else:
            self.run.try_(self.name, "TRL", self.trl)

    def sampling(self, name: str, rate: float) -> None:
        settings = RolloutSettings(engine=name, vllm={"python": self.run.vllm})
        generator = build_generator(self.policy, self.site.model_copy(update={"rollout": settings}), Ranks())
        rollouts = Rollouts(self.policy, generator, Alternating(), Ranks(), self.length, 1.0)
        rollouts.groups(self.problems[:1], 2, 0)  # kernels are loaded
        with self.run.timed() as found:
            groups, _ = rollouts.groups(self.problems, GROUP, 1)
        generator.close()
        self.groups = self.groups or groups
        tokens = sum(len(c.token_ids) for group in groups for c in group.completions)
        self.speed(f"sampling, {name}", tokens, 2, found, rate)

    def speed(self, what: str, tokens: int, operations: int, found: dict, rate: float) -> None:
        """`operations` for each weight and token."""
        share = operations * self.weights * tokens / found["seconds"] / rate
        self.run.add(self.name, what, tokens / found["seconds"], "tokens/s", share_of_matmul=round(share, 4), **found)

    def rows(self) -> list[Row]:
        encode = self.policy.encode_prompt
        return [Row(encode(g.problem.prompt), c.token_ids) for g in self.groups for c in g.completions]

    def agreement(self) -> None:
        """Of training's ways to score, and of sampling with training."""
        scorer, batch = self.engine.scorer, collate(self.rows()[:GROUP], self.policy.pad_id, self.run.device)
        with torch.no_grad():
            plain, packed, padded = (way(batch)[batch.mask] for way in (scorer._plain, scorer._packed, scorer._padded))
        sampled = [c.logprobs for g in self.groups[:1] for c in g.completions]
        pairs = {"packed, beside the model's own pass": packed - plain, "padded, beside it": padded - plain}
        if all(sampled):
            given = torch.tensor([value for values in sampled for value in values], device=self.run.device)
            pairs["sampled, beside packed"] = given - packed
        for what, difference in pairs.items():
            value, limit = float(difference.abs().mean()), LIMITS[self.run.dtype]
            self.run.add(self.name, f"log-probabilities {what}", value, "nats", right=value <= limit)

    def training(self, rate: float) -> None:
        step = GrpoStep(self.engine, Alternating(), self.job.grpo, Ranks(), self.site.micro_batch_size)
        before, random = self.engine.adapter(), np.random.default_rng(0)
        step(self.groups[:1], random)
        with self.run.timed() as found:
            metrics = step(self.groups, random)
        moved = max(float((t - before[n]).abs().max()) for n, t in self.engine.adapter().items())
        right = metrics["optimizer_steps"] == 1 and 0 < moved < 10 * LEARNING_RATE
        self.run.add(self.name, "adapter's largest change in two steps", moved, "", right=right)
        rows, size = self.rows(), self.site.micro_batch_size
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        tokens = sum(pack(part, torch.device("cpu")).token_ids.numel() for part in parts)
        self.speed("training, packed tokens", tokens, 4, found, rate)

    def trl(self) -> None:
        path, shape = self.site.model_path, (self.site.micro_batch_size, self.length)
        trainer = trl_trainer(path, self.problems, *shape, 2, self.run.device.type, self.run.dtype)
        with self.run.timed() as found:
            trainer.train()
        self.run.add(self.name, "TRL, a step (sampling and training)", found["seconds"] / 2, "s", GB=found["GB"])


def main(arguments: argparse.Namespace) -> int:
    """0 where all that ran was right, 1 where something failed or was wrong."""
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    device = torch.device("cpu") if arguments.cpu else torch.device("cuda", 0)
    until = time.monotonic() + 60 * arguments.minutes
    run = Run(device, "float32" if arguments.cpu else "bfloat16", until, arguments.vllm)
    name = "cpu" if arguments.cpu else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, {run.dtype}")
    rate = matrix_rate(run)
    run.add("", "matrix product", rate / 1e12, "TFLOP/s")
    shape, length, prompt, rows = (SMALL, 8, 8, 16) if arguments.cpu else (QWEN3, 256, 128, 16)
    with tempfile.TemporaryDirectory() as folder:
        workload = Workload("", "qwen3", shape, length, 0, 1, rows)
        save_model(workload, Path(folder), device=device.type, dtype=run.dtype)
        subjects = {"random" if arguments.cpu else "Qwen3-1.7B, random": Path(folder)}
        subjects |= {arguments.model.name: arguments.model} if arguments.model else {}
        for title, path in subjects.items():

            def measure(title: str = title, path: Path = path) -> None:
                Subject(run, title, path, length, prompt, rows).measure(rate, not arguments.no_trl)

            run.try_(title, "the engine", measure)
    result = {"device": name, "torch": torch.__version__, "dtype": run.dtype, "lines": run.lines}
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1))
    return int(any(not line.get("right", True) or "failed" in line for line in run.lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm", type=Path, metavar="PYTHON", help="of the environment that vLLM is installed in")
    parser.add_argument("--cpu", action="store_true", help="a tiny shape on the CPU, in float32")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a second model, such as SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON of all lines")
    parser.add_argument("--minutes", type=float, default=6.5, help="nothing is begun after so many")
    parser.add_argument("--no-trl", action="store_true", help="without TRL, also where it is installed")
    raise SystemExit(main(parser.parse_args()))
