"""What differential privacy of every private problem costs on the demo: epsilon against final pass@1.

    python tests/benchmarks/dp_cost.py --seeds 10 11 12

Each row is `python jobs/demo/job.py --config app_configs/demo-dp.yaml` with one setting changed. Epsilon is read from
the ledger of the first site afterwards. In the last row the clip norm of private steps is so small that neither
problems nor noise have an effect: the result comes from the public problems and the exchange alone (whose momentum
continues in private steps). Noise is secret, so a run does not repeat: two runs of one seed differ.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fedrlvr.privacy.accountant import ExampleNoise, bounds
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.report.means import Mean

ROOT = Path(__file__).parents[2]
DELTA = 1e-5
CONTROL = "private problems without effect"
ROWS = {
    "no noise, nothing clipped": "privacy.mode=none",
    "noise 0.5": "privacy.noise_multiplier=0.5",
    "noise 1": "privacy.noise_multiplier=1",
    "noise 2": "privacy.noise_multiplier=2",
    CONTROL: "privacy.clip_norm=1.0e-12",
}


def run(setting: str, seed: int, workspace: Path) -> tuple[float, dict[str, float]]:
    """Final pass@1, and the first site's epsilon by each accountant ({}: it has charged nothing)."""
    command = [sys.executable, str(ROOT / "jobs/demo/job.py"), "--config", str(ROOT / "app_configs/demo-dp.yaml")]
    command += ["--seed", str(seed), "--set", setting, "--workspace", str(workspace)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    (folder,) = workspace.glob("demo-dp-*")
    summary = json.loads((folder / "summary.json").read_text())
    ledger = Ledger(folder / "sites" / "site-1" / "ledger.jsonl", site=None)
    charges = ledger.charges(Source("demo-protocol"), ExampleNoise)
    folder.rename(workspace / f"run-{len(list(workspace.iterdir()))}")
    return summary["final"]["test"]["overall"]["pass@1"], bounds(charges, DELTA) if charges else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    seeds = parser.parse_args().seeds
    print(f"| private steps | epsilon at delta {DELTA:g} | by RDP alone | final pass@1 | by seed |")
    print("| --- | ---: | ---: | ---: | --- |")
    with tempfile.TemporaryDirectory() as workspace:
        for name, setting in ROWS.items():
            results, spent = zip(*(run(setting, seed, Path(workspace)) for seed in seeds), strict=True)
            found = {} if name == CONTROL else spent[0]
            shown = [f"{found[accountant]:.2f}" if found else "-" for accountant in ("PLD", "RDP")]
            each = ", ".join(f"{result:.2f}" for result in results)
            print(f"| {name} | {' | '.join(shown)} | {Mean.of(results)} | {each} |", flush=True)


if __name__ == "__main__":
    main()
