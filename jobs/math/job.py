"""Mathematics: sites with different kinds of problems (MATH by type, DeepMath by topic), answers checked by value.

python jobs/math/job.py --tiny                             # a dry run in minutes on two CPU cores
python jobs/math/job.py --data data/math --model models/Qwen3-1.7B
python jobs/math/job.py --tiny --data data/math --model models/Qwen3-1.7B     # a dry run of that very set-up
"""

from pathlib import Path

from fedrlvr.launch.job import arguments, run

PRESET = Path(__file__).parents[2] / "app_configs" / "math-qwen3-1.7b.yaml"

if __name__ == "__main__":
    raise SystemExit(run(arguments(__doc__.splitlines()[0], PRESET)))
