"""What a whole GRPO step costs, sampling and training, beside TRL's GRPOTrainer with the same settings.

    pip install -c app_configs/constraints.txt -e '.[test]'
    python tests/benchmarks/step.py
    python tests/benchmarks/step.py --only early --rounds 9
    python tests/benchmarks/step.py --only whole --profile       # what a step of ours spends its time on

Each side has a process of its own, with one thread. The two take turns, one step each: medians of CPU-seconds of the
rounds after the first, and the median of the ratios of single rounds. Memory is the most that a process held, its
libraries included. Models are random, with LoRA r 16 on every linear layer, in float32. 8 prompts of 24 to 31 tokens
(`examples`: 120 to 127) x 8 completions. In every group each second completion is right, so every row trains. TRL has
the micro-batch that is fastest for it; its `generate_batch`, compilation and static cache are slower here.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from fedrlvr.types import Problem

GROUP, PROMPTS, RANK, ALPHA, LEARNING_RATE = 8, 8, 16, 32, 1e-5
WIDE = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 64,
}
SMOLLM2 = {  # SmolLM2-135M
    "num_hidden_layers": 30,
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
}


@dataclass(frozen=True)
class Workload:
    """`ends` tokens of the vocabulary end a completion; -1 stands for none. Of `trl_rows` rows are TRL's micro-batches,
    of `rows` ours."""

    title: str
    family: str
    shape: dict
    length: int
    ends: int
    rounds: int
    trl_rows: int
    rows: int = 64
    prompt: int = 24

    @property
    def end_ids(self) -> tuple[int, ...]:
        vocabulary = self.shape["vocab_size"]
        return tuple(range(vocabulary - self.ends, vocabulary)) or (-1,)

    def problems(self) -> list[Problem]:
        words = [" ".join(f"w{3 + (37 * i + 11 * j) % 400}" for j in range(self.prompt + i)) for i in range(PROMPTS)]
        return [Problem(str(i), text, "") for i, text in enumerate(words)]


SMALL = WIDE | {"num_hidden_layers": 4, "vocab_size": 512}
WORKLOADS = {
    "whole": Workload("4 layers x 256, all 64 tokens", "qwen3", SMALL, 64, 0, 7, 16),
    "early": Workload("completions end early (mean 16 tokens)", "qwen3", SMALL, 64, 30, 9, 16),
    "long": Workload("up to 256 tokens, mean 80", "qwen3", SMALL, 256, 6, 5, 8),
    "vocabulary": Workload(
        "2 layers, vocabulary 151,936", "qwen3", WIDE | {"num_hidden_layers": 2, "vocab_size": 151_936}, 64, 0, 3, 64
    ),
    "smollm2": Workload("SmolLM2-135M's shape, all 64 tokens", "llama", SMOLLM2, 64, 0, 2, 16, 16),
    "examples": Workload("SmolLM2-135M's shape, prompts of 124, 14 tokens", "llama", SMOLLM2, 14, 0, 3, 16, 16, 120),
}


class Alternating:
    """A task whose completions are wrong and right by turns."""

    name = "alternating"

    def __init__(self):
        self.count = 0

    def prompt(self, problem: Problem) -> str:
        return problem.prompt

    def verify(self, problem: Problem, completion: str) -> tuple[float, str]:
        self.count += 1
        return float(self.count % 2), ""

    def variant(self, problem: Problem, number: int) -> Problem:
        return problem


def save_model(workload: Workload, folder: Path, device: str = "cpu", dtype: str = "float32") -> None:
    """A random model, and a tokenizer in which each token is a word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    config = CONFIG_MAPPING[workload.family](**workload.shape, tie_word_embeddings=True, **ids)
    with torch.device(device):
        AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).save_pretrained(folder)
    words = {"<pad>": 0, "<end>": 1, "<unknown>": 2} | {f"w{i}": i for i in range(3, workload.shape["vocab_size"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)


def most_memory() -> int:
    """The most bytes that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


class Turns:
    """One side of the comparison: takes a step when it is asked to, and says what the step cost."""

    def __init__(self, connection: Connection):
        self.connection, self._began, self._sampling = connection, 0.0, 0.0

    def sampling(self, work: Callable) -> Callable:
        """`work`, whose CPU-seconds count as those of sampling."""

        def timed(*arguments, **more):
            began = time.process_time()
            result = work(*arguments, **more)
            self._sampling += time.process_time() - began
            return result

        return timed

    def wait(self) -> bool:
        """Whether another step is wanted."""
        wanted = self.connection.recv()
        self._began, self._sampling = time.process_time(), 0.0
        return wanted

    def done(self) -> None:
        self.connection.send((time.process_time() - self._began, self._sampling, most_memory()))


def job_settings(length: int) -> dict:
    return {
        "task": "math",
        "model": "random",
        "grpo": {"num_generations": GROUP, "prompts_per_step": PROMPTS, "max_completion_length": length},
        "lora": {"r": RANK, "alpha": ALPHA, "target_modules": "all-linear"},
        "optimizer": {"learning_rate": LEARNING_RATE},
    }


def ours(workload: Workload, folder: Path, connection: Connection) -> None:
    import torch

    from fedrlvr.config import JobConfig, PromptSettings
    from fedrlvr.learning.engine import Engine
    from fedrlvr.learning.grpo_step import GrpoStep
    from fedrlvr.learning.model import load_policy
    from fedrlvr.learning.ranks import Ranks
    from fedrlvr.learning.rollouts import Rollouts
    from fedrlvr.learning.sampler import CachedSampler
    from fedrlvr.learning.trainer import SiteProblems, Trainer
    from fedrlvr.protocol.records import Segment
    from fedrlvr.site_config import LocalModel

    torch.set_num_threads(1)
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    job = JobConfig(**job_settings(workload.length))
    policy = load_policy(LocalModel(model_path=folder), job.lora, PromptSettings(), torch.device("cpu"))
    policy = replace(policy, eos_ids=workload.end_ids)
    engine = Engine(policy, job.optimizer, {"zero_optimization": {"stage": 0}}, job.grpo.temperature)
    task, sampler = Alternating(), CachedSampler(policy, 1024)
    rollouts = Rollouts(policy, sampler, task, Ranks(), workload.length, job.grpo.temperature)
    step = GrpoStep(engine, task, job.grpo, Ranks(), workload.rows)
    trainer = Trainer(job, "site-1", SiteProblems(workload.problems(), {}, [], []), rollouts, step)
    turns = Turns(connection)
    rollouts.groups = turns.sampling(rollouts.groups)
    number = 0
    while turns.wait():
        (record,) = trainer.train([Segment(number, 1, ())], exchange=False)
        assert record.metrics["live_groups"] == PROMPTS
        number += 1
        turns.done()


def trl_trainer(path: Path, problems: list[Problem], rows: int, length: int, steps: int, device: str, dtype: str):
    """TRL's, with our settings, and micro-batches of `rows`; in every group each second completion is right."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    settings = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=PROMPTS * GROUP // rows,
        num_generations=GROUP,
        max_completion_length=length,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        adam_beta2=0.99,
        loss_type="dr_grpo",
        beta=0.0,
        max_steps=steps,
        gradient_checkpointing=False,
        use_cpu=device == "cpu",
        bf16=dtype == "bfloat16",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1000,
    )
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)),
        reward_funcs=lambda completions, **more: [float(i % 2) for i in range(len(completions))],
        args=settings,
        train_dataset=Dataset.from_list([{"prompt": problem.prompt} for problem in problems]),
        processing_class=AutoTokenizer.from_pretrained(path, padding_side="left"),
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def trl(workload: Workload, folder: Path, connection: Connection) -> None:
    import torch
    from transformers import TrainerCallback

    torch.set_num_threads(1)
    turns = Turns(connection)

    class TakeTurns(TrainerCallback):
        def on_step_begin(self, args, state, control, **more):
            if not turns.wait():
                os._exit(0)  # there is no other way out before the last step

        def on_step_end(self, args, state, control, **more):
            turns.done()

    shape = workload.trl_rows, workload.length
    trainer = trl_trainer(folder, workload.problems(), *shape, steps=1000, device="cpu", dtype="float32")
    trainer.add_callback(TakeTurns())
    trainer.eos_token_ids = list(workload.end_ids)
    trainer.generation_config.eos_token_id = trainer.generation_kwargs["eos_token_id"] = list(workload.end_ids)
    trainer._generate = turns.sampling(trainer._generate)
    trainer.train()


def compare(workload: Workload, rounds: int) -> str:
    """One row of the table."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maker = context.Process(target=save_model, args=(workload, folder))
        maker.start()
        maker.join()
        sides = []
        for side in (ours, trl):
            near, far = context.Pipe()
            process = context.Process(target=side, args=(workload, folder, far), daemon=True)
            process.start()
            far.close()
            sides.append((process, near))
        costs = []
        for _ in range(rounds + 1):  # the first is to warm up
            costs.append([])
            for _, connection in sides:
                connection.send(True)
                costs[-1].append(connection.recv())
        for process, connection in sides:
            connection.send(False)
            process.join()
    return row(workload.title, costs)


class ProfiledSteps:
    """In the place of a connection: asks for two steps, the second under torch's profiler."""

    def __init__(self):
        import torch

        self.profiler, self.steps = torch.profiler.profile(), 0

    def recv(self) -> bool:
        self.steps += 1
        if self.steps == 2:
            self.profiler.start()
        return self.steps <= 2

    def send(self, cost: object) -> None:
        if self.steps == 2:
            self.profiler.stop()


def profile(workload: Workload) -> str:
    """The shares of a step's time that matrix products and attention take, forward and backward."""
    steps = ProfiledSteps()
    with tempfile.TemporaryDirectory() as name:
        save_model(workload, Path(name))
        ours(workload, Path(name), steps)
    times = {event.key: event.self_cpu_time_total for event in steps.profiler.key_averages()}
    products = sum(times.get(f"aten::{name}", 0) for name in ("mm", "addmm", "addmm_", "bmm"))
    attention = sum(time for name, time in times.items() if name.startswith("aten::_scaled_dot_product"))
    shares = (part / sum(times.values()) for part in (products, attention))
    return "{}: {:.0%} matrix products, {:.0%} attention".format(workload.title, *shares)


def row(title: str, costs: list) -> str:
    """`costs` holds for each round and side: CPU-seconds, those of sampling, and bytes."""
    taken = costs[1:]
    mine, theirs = (statistics.median(side[0] for side in sides) for sides in zip(*taken, strict=True))
    drawn, drawn_there = (statistics.median(side[1] for side in sides) for sides in zip(*taken, strict=True))
    ratio = statistics.median(a[0] / b[0] for a, b in taken)
    held, held_there = (side[2] / 1e9 for side in taken[-1])
    return (
        f"| {title} | {theirs:.2f} ({drawn_there:.2f} + {theirs - drawn_there:.2f}), {held_there:.1f} GB "
        f"| {mine:.2f} ({drawn:.2f} + {mine - drawn:.2f}), {held:.1f} GB | {ratio:.2f} | {held / held_there:.2f} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A whole GRPO step beside TRL's.")
    parser.add_argument("--only", choices=list(WORKLOADS), action="append", help="this row of the table, not all")
    parser.add_argument("--rounds", type=int, help="steps of each side that count, in place of each row's own number")
    parser.add_argument("--trl-rows", type=int, help="TRL's micro-batch, in place of the fastest")
    parser.add_argument("--profile", action="store_true", help="what a step of ours spends its time on, without TRL")
    arguments = parser.parse_args()
    os.environ.update(TRANSFORMERS_VERBOSITY="error", PYTHONWARNINGS="ignore", HF_HUB_OFFLINE="1")
    if not arguments.profile:
        print("| | TRL (sampling + training) | fedrlvr (sampling + training) | time | memory |")
        print("| --- | --- | --- | ---: | ---: |")
    for name in arguments.only or WORKLOADS:
        chosen = replace(WORKLOADS[name], trl_rows=arguments.trl_rows or WORKLOADS[name].trl_rows)
        if arguments.profile:
            print(profile(chosen), flush=True)
        else:
            print(compare(chosen, arguments.rounds or chosen.rounds), flush=True)
