"""What a round costs the server: checking the sites' updates, averaging them, and measuring how far they pull apart.

    python tests/benchmarks/averaging.py

The adapter is that of Qwen3-1.7B with LoRA r 16 on every linear layer: 392 tensors, 17.4 million numbers, 70 MB. Each
row runs in a process of its own, with one thread. Memory is the most that the process held more than before, when it
already held the updates.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import torch

from fedrlvr.algorithms.aggregate import AGGREGATORS, drift
from fedrlvr.protocol.adapters import check_adapter
from fedrlvr.types import Adapter

LAYERS, RANK = 28, 16
WIDTHS = {  # of Qwen3-1.7B's linear layers: numbers in, numbers out
    "self_attn.q_proj": (2048, 2048),
    "self_attn.k_proj": (2048, 1024),
    "self_attn.v_proj": (2048, 1024),
    "self_attn.o_proj": (2048, 2048),
    "mlp.gate_proj": (2048, 6144),
    "mlp.up_proj": (2048, 6144),
    "mlp.down_proj": (6144, 2048),
}


def shapes() -> dict[str, list[int]]:
    spec = {}
    for layer in range(LAYERS):
        for name, (wide_in, wide_out) in WIDTHS.items():
            spec[f"layers.{layer}.{name}.lora_A.weight"] = [RANK, wide_in]
            spec[f"layers.{layer}.{name}.lora_B.weight"] = [wide_out, RANK]
    return dict(sorted(spec.items()))


def made_up(spec: dict[str, list[int]], scale: float, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * scale for name, shape in spec.items()}


def guard(spec: dict[str, list[int]], updates: list[Adapter]) -> None:
    for update in updates:
        check_adapter(update, spec, max_norm=1e6)


def parts(spec: dict[str, list[int]], start: Adapter, updates: list[Adapter]) -> dict[str, Callable[[], object]]:
    return {
        "check": lambda: guard(spec, updates),
        "average, `fedit`": lambda: AGGREGATORS["fedit"](start, updates),
        "average, `svd`": lambda: AGGREGATORS["svd"](start, updates),
        "drift": lambda: drift(start, updates),
    }


def measure(part: str, sites: int) -> tuple[float, float]:
    """CPU-seconds, and GB at the most beyond the updates themselves."""
    torch.set_num_threads(1)
    spec = shapes()
    start, updates = made_up(spec, 0.02, 0), [made_up(spec, 0.003, seed) for seed in range(1, sites + 1)]
    held, began = _most_memory(), time.process_time()
    parts(spec, start, updates)[part]()
    return time.process_time() - began, _most_memory() - held


def _most_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[4, 16])
    sites = parser.parse_args().sites
    print("| |", " | ".join(f"{count} sites" for count in sites), "|")
    print("| --- |", " | ".join("---:" for _ in sites), "|")
    for part in parts({}, {}, []):
        cells = []
        for count in sites:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                seconds, memory = process.apply(measure, (part, count))
            cells.append(f"{seconds:.1f} s, {max(memory, 0.0):.2f} GB")
        print(f"| {part} |", " | ".join(cells), "|", flush=True)
