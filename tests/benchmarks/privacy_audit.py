"""What a released adapter reveals about its private problems: without protection, clipped, trained with DP-GRPO.

    python tests/benchmarks/privacy_audit.py --seeds 10 11 12 13 14

One site trains alone, long and on few problems, which is the worst case: 50 times on each of 96. Two thirds of them are
canaries: cases whose right protocol was drawn at random, so that only this problem can teach it. The attacker has the
base model, the released adapter and the texts, and measures how much more likely the adapter made each right answer.

* membership: a threshold on that number separates canaries (or ordinary problems) that were trained on from equally
  many that were not (Yeom et al., arXiv 1709.01604, with the base model as reference). AUC 0.5 is guessing. TPR: the
  share of canaries that are recognised if 1 in 20 of the others is mistaken for one.
* exposure (Carlini et al., arXiv 1802.08232): 2 - log2 of the rank of a canary's protocol among all four. 0.85 bits is
  guessing, 2 bits is always right.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fedrlvr.algorithms.lora import adapter_spec, initial_adapter
from fedrlvr.config import JobConfig
from fedrlvr.launch.experiment import spec_on
from fedrlvr.learning.build import build_trainer
from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.trainer import Trainer
from fedrlvr.privacy.accountant import ExampleNoise, epsilon
from fedrlvr.privacy.adapter_release import AdapterRelease
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.privacy.policy import AdapterRules
from fedrlvr.protocol.records import Segment
from fedrlvr.report.means import Mean
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import TASKS
from fedrlvr.tasks.protocol import PROTOCOLS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model
from fedrlvr.tiny.generated import GeneratedData, write_generated
from fedrlvr.types import Completion, Problem

TASK = TASKS["protocol"]
ORDINARY, CANARIES, BATCH, STEPS, DELTA = 32, 64, 16, 300, 1e-5
CLIP = 3.0  # L2 norm of the whole difference, which is between 7 and 8 unclipped
GROUP_CLIP = 0.005  # of a group's gradient in DP-GRPO


@dataclass(frozen=True)
class Setting:
    name: str
    clip_norm: float | None = None
    noise: float | None = None


SETTINGS = [Setting("off"), Setting(f"clipped to {CLIP:g}", clip_norm=CLIP)]
SETTINGS += [Setting(f"DP-GRPO, noise {noise:g}", noise=noise) for noise in (0.5, 1.0, 2.0)]


@dataclass(frozen=True)
class Subjects:
    """Problems trained on (`inside`) and their like (`outside`), with each canary's protocol."""

    inside: list[Problem]
    outside: list[Problem]
    canaries_inside: list[tuple[Problem, str]]
    canaries_outside: list[tuple[Problem, str]]


def draw(seed: int) -> Subjects:
    random = np.random.default_rng(seed)
    drawn: dict[str, Problem] = {}
    while len(drawn) < 2 * (ORDINARY + CANARIES):
        problem = TASK.problem(str(random.choice(TASK.labels)), random)
        if len({answer(problem, name) for name in PROTOCOLS}) == len(PROTOCOLS):
            drawn[problem.id] = problem
    problems = list(drawn.values())
    secret = [str(name) for name in random.choice(list(PROTOCOLS), 2 * CANARIES)]
    canaries = [(replace(p, answer=answer(p, s)), s) for p, s in zip(problems[: 2 * CANARIES], secret, strict=True)]
    rest = problems[2 * CANARIES :]
    return Subjects(rest[:ORDINARY], rest[ORDINARY:], canaries[:CANARIES], canaries[CANARIES:])


def answer(problem: Problem, protocol: str) -> str:
    return TASK.worked(problem, protocol).partition("#")[2]


def job(setting: Setting, seed: int) -> JobConfig:
    privacy = {"mode": "dp_grpo", "clip_norm": GROUP_CLIP, "noise_multiplier": setting.noise} if setting.noise else {}
    return JobConfig(
        task="protocol",
        model="audit",
        seed=seed,
        lora={"target_modules": "all-linear"},
        grpo={
            "prompts_per_step": BATCH,
            "max_completion_length": 24,
            "epsilon_high": 1.0,
            "negative_advantage_scale": 0.5,
        },
        optimizer={"learning_rate": 3e-3},
        privacy=privacy,
    )


def site(seed: int, model: Path, folder: Path) -> SiteConfig:
    data = {"sites": {"site": TASK.labels}, "private_per_site": 4, "heldout_per_site": 1, "public": 4}
    write_generated(GeneratedData(**data, test_per_label=64), TASK, seed, folder)
    (folder / "deepspeed.json").write_text(json.dumps({"zero_optimization": {"stage": 0}}))
    return SiteConfig(
        model="audit",
        model_path=model,
        private_problems=folder / "site.jsonl",
        public_problems=folder / "public.jsonl",
        test_problems=folder / "test.jsonl",
        deepspeed_config=folder / "deepspeed.json",
        state_dir=folder / "state",
    )


def trained(setting: Setting, subjects: Subjects, seed: int, model: Path, folder: Path) -> Trainer:
    """The site's trainer, under the adapter that left."""
    config = site(seed, model, folder)
    trainer = build_trainer(
        spec_on(config.public_problems, config.test_problems, job(setting, seed)), "site", config, Ranks()
    )
    # In memory only: a canary's answer is not the right one, and no problem file may hold it.
    private = [*subjects.inside, *(problem for problem, _ in subjects.canaries_inside)]
    trainer.problems = replace(trainer.problems, private=private)
    spec = adapter_spec(trainer.engine.adapter())
    start = initial_adapter(spec, seed)
    trainer.begin_round(start, 0)
    trainer.train([Segment(step, 1, ()) for step in range(STEPS)], exchange=False)
    rules, ledger = AdapterRules(clip_norm=setting.clip_norm), Ledger(folder / "ledger", "site")
    release = AdapterRelease(rules, ledger, Source("audit"), "0")
    delta, _ = release(trainer.submit(), spec)
    trainer.engine.load_adapter({name: start[name] + delta[name] for name in start})
    return trainer


def gains(trainer: Trainer, problems: Sequence[Problem], texts: Sequence[str]) -> np.ndarray:
    """How much more likely the adapter made each text than the base model: a difference of log-probabilities."""
    policy = trainer.rollouts.policy
    rows = [
        trainer.step.row(problem, Completion((*policy.encode(text), policy.eos_ids[0]), None, text, 1.0))
        for problem, text in zip(problems, texts, strict=True)
    ]
    now, before = trainer.step.score(rows), trainer.step.score(rows, reference=True)
    return np.array([sum(a) - sum(b) for a, b in zip(now, before, strict=True)])


def attack(trainer: Trainer, subjects: Subjects) -> dict[str, float]:
    ordinary = [
        gains(trainer, problems, [TASK.gold_completion(problem) for problem in problems])
        for problems in (subjects.inside, subjects.outside)
    ]
    inside, ranks = canary_gains(trainer, subjects.canaries_inside)
    outside, _ = canary_gains(trainer, subjects.canaries_outside)
    scores = trainer.validate(None, samples=4, share=None, name="audit").test
    return {
        "ordinary": auc(*ordinary),
        "canary": auc(inside, outside),
        "tpr": float((inside > np.quantile(outside, 0.95)).mean()),
        "exposure": float((math.log2(len(PROTOCOLS)) - np.log2(ranks)).mean()),
        "pass@1": statistics.mean(score["pass@1"] for score in scores.values()),
    }


def canary_gains(trainer: Trainer, canaries: Sequence[tuple[Problem, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Of each canary's right answer, and its rank among the answers by all protocols (1: the adapter gained most)."""
    problems = [problem for problem, _ in canaries]
    everything = [gains(trainer, problems, [TASK.worked(p, name) for p in problems]) for name in PROTOCOLS]
    secret = [list(PROTOCOLS).index(name) for _, name in canaries]
    right = np.stack(everything)[secret, np.arange(len(canaries))]
    return right, (np.stack(everything) >= right).sum(axis=0)


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """The chance that one of the first is larger than one of the second."""
    larger, equal = inside[:, None] > outside[None], inside[:, None] == outside[None]
    return float((larger + equal / 2).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    parser.add_argument("--models", type=Path, default=Path("workspace/models"), help="where base models go")
    arguments = parser.parse_args()
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    torch.set_num_threads(1)
    model = base_model(TASK, TASK, BaseModelSettings(), arguments.models)
    print("| released adapter | epsilon | AUC, ordinary | AUC, canaries | TPR at FPR 5% | exposure, bits | pass@1 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for setting in SETTINGS:
        rows = []
        for seed in arguments.seeds:
            subjects = draw(seed)
            with tempfile.TemporaryDirectory() as folder:
                rows.append(attack(trained(setting, subjects, seed, model, Path(folder)), subjects))
        cells = [Mean.of([row[name] for row in rows]) for name in rows[0]]
        print(f"| {setting.name} | {spent(setting)} | {' | '.join(cells)} |", flush=True)


def spent(setting: Setting) -> str:
    if setting.noise is None:
        return "-"
    return f"{epsilon([ExampleNoise(BATCH / (ORDINARY + CANARIES), setting.noise, 1, STEPS)], DELTA):.1f}"


if __name__ == "__main__":
    main()
