"""Word problems: a pretrained model learns to put them as expressions, from two sites with different operations.

python jobs/word_problems/job.py --data data/word_problems --model models/SmolLM2-135M-Instruct    # README.md: both
python jobs/word_problems/job.py --data data/word_problems --model models/SmolLM2-135M-Instruct --method fedavg
"""

from pathlib import Path

from fedrlvr.launch.job import arguments, run

PRESET = Path(__file__).parents[2] / "app_configs" / "word-problems-smollm2-135m.yaml"

if __name__ == "__main__":
    raise SystemExit(run(arguments(__doc__.splitlines()[0], PRESET)))
