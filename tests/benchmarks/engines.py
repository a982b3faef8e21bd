"""What sampling costs by each rollout engine, in tokens a CPU-second, the server's processes included.

    python tests/benchmarks/engines.py MODEL [PYTHON-OF-VLLM]

MODEL is a Hugging Face directory; without a Python of vLLM its engine is left out. 8 prompts x 8 completions of 32
tokens, LoRA r 8, float32, one thread. Medians of several rounds in which the engines take turns; what each call costs
besides, such as a new adapter, is part of it.
"""

import logging
import statistics
import sys
import tempfile
from pathlib import Path

import psutil
import torch

from fedrlvr.config import LoraSettings, PromptSettings
from fedrlvr.learning.build import build_generator
from fedrlvr.learning.generator import Generator
from fedrlvr.learning.model import load_policy
from fedrlvr.learning.ranks import Ranks
from fedrlvr.site_config import SiteConfig

PROMPTS, GROUP, LENGTH, ROUNDS = 8, 8, 32, 3
TEXT = "Ana has 14 figs and gives {} of them to Ben. How many figs does she have left? Think aloud."


def config(model: Path, engine: str, folder: Path, **vllm) -> SiteConfig:
    files = ("private_problems", "public_problems", "test_problems", "deepspeed_config")
    return SiteConfig(
        model="model",
        model_path=model,
        state_dir=folder,
        threads=1,
        device="cpu",
        rollout={"engine": engine, "vllm": vllm},
        **dict.fromkeys(files, folder),
    )


def cpu_seconds() -> float:
    """Of this process and all under it."""
    own = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in [own, *own.children(recursive=True)])


def tokens_per_second(engine: Generator, prompts: list[tuple[int, ...]], seed: int) -> float:
    uniforms = torch.rand(PROMPTS * GROUP, LENGTH, generator=torch.Generator().manual_seed(seed))
    began = cpu_seconds()
    engine.adapter_changed()
    groups = engine.sample(prompts, 0.7, uniforms)
    return sum(len(one.token_ids) for group in groups for one in group) / (cpu_seconds() - began)


def main(model: Path, vllm: str | None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"cached": {}, "continuous": {}} | ({"vllm": {"python": vllm}} if vllm else {})
        sites = {name: config(model, name, Path(folder), **more) for name, more in kinds.items()}
        policy = load_policy(sites["cached"], LoraSettings(), PromptSettings(), torch.device("cpu"))
        engines = {name: build_generator(policy, site, Ranks()) for name, site in sites.items()}
        prompts = [policy.encode_prompt(TEXT.format(i + 2)) for i in range(PROMPTS)]
        try:
            rounds = [
                {name: tokens_per_second(e, prompts, i) for name, e in engines.items()} for i in range(ROUNDS + 1)
            ]
        finally:
            for engine in engines.values():
                engine.close()
    print("| engine | tokens a CPU-second |\n| --- | ---: |")
    for name in engines:
        print(f"| `{name}` | {statistics.median(one[name] for one in rounds[1:]):.0f} |")  # the first warms up


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
