"""Medicine: sites with different subjects (MedMCQA by subject, MedQA), multiple-choice answers checked by their letter.

python jobs/medical/job.py --tiny                          # a dry run in minutes on two CPU cores
python jobs/medical/job.py --data data/medical --model models/Llama-3.2-3B-Instruct
python jobs/medical/job.py --tiny --data data/medical --model models/Llama-3.2-3B-Instruct   # a dry run of that set-up
"""

from pathlib import Path

from fedrlvr.launch.job import arguments, run

PRESET = Path(__file__).parents[2] / "app_configs" / "medical-llama-3.2-3b-instruct.yaml"

if __name__ == "__main__":
    raise SystemExit(run(arguments(__doc__.splitlines()[0], PRESET)))
