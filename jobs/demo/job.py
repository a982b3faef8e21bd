"""The demo: four sites, each with one type of case only, train together by federated RLVR with response swapping.

python jobs/demo/job.py                                    # PubSwap, minutes on two CPU cores
python jobs/demo/job.py --method fedavg --seed 3           # a baseline
python jobs/demo/job.py --set grpo.num_generations=16      # any setting of app_configs/demo.yaml
"""

from pathlib import Path

from fedrlvr.launch.job import arguments, run

PRESET = Path(__file__).parents[2] / "app_configs" / "demo.yaml"

if __name__ == "__main__":
    raise SystemExit(run(arguments(__doc__.splitlines()[0], PRESET)))
