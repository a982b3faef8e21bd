"""Records of runs that never were, for the arithmetic."""

import pytest


def record(variant="pubswap", seed=10, base_model=0, final=0.9, **more) -> dict:
    """Two rounds, four segments: own adapters at 0.3 and 0.5 after segments 2 and 4, averages at 0.4 and `final`."""
    curve = [
        {"segment": 0, "which": "averaged", "pass@1": 0.1, "bytes": 0},
        {"segment": 2, "which": "own", "pass@1": 0.3, "bytes": 100},
        {"segment": 2, "which": "averaged", "pass@1": 0.4, "bytes": 200},
        {"segment": 4, "which": "own", "pass@1": 0.5, "bytes": 300},
        {"segment": 4, "which": "averaged", "pass@1": final, "bytes": 400},
    ]
    work = {"batches": 8.0, "optimizer_steps": 30.0, "completions": 512, "tokens": 5000}
    matrix = {"site-1": {"A": 0.9, "B": 0.1}, "averaged": {"A": final, "B": final}}
    live = [[1, 0.5], [2, 0.75], [3, 1.0], [4, 1.0]]
    about = {"method": variant, "sites": 1, "rounds": 2, "segments": 4, "base": 0.1, "problems": 256}
    counts = {"exchanges": 2, "posted": 40, "failures": 0, "seconds": 1.0}
    name = {"study": "skew", "variant": variant, "base_model": base_model, "seed": seed, "settings": "x", "source": "y"}
    values = {"final": final, "curve": curve, "work": work, "matrix": matrix, "live": live}
    return name | about | counts | values | more


@pytest.fixture(name="record")
def make_record():
    return record


@pytest.fixture
def records():
    """Of two methods over three seeds: 0.9, 0.8, 0.7 and 0.6, 0.6, 0.3."""
    ends = {"pubswap": (0.9, 0.8, 0.7), "fedavg": (0.6, 0.6, 0.3)}
    return [record(name, seed, final=end) for name in ends for seed, end in zip((10, 11, 12), ends[name], strict=True)]
