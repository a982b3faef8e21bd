"""Compare methods over seeds and base models: tables with intervals, figures, one page.

python jobs/compare/job.py --quick                   # five minutes on two cores
python jobs/compare/job.py                           # all of plan.yaml; what is done is not done again
python jobs/compare/job.py --studies two-averages --seeds 20-24
"""

from pathlib import Path

from fedrlvr.comparison.command import arguments, run

if __name__ == "__main__":
    raise SystemExit(run(arguments(__doc__.splitlines()[0], Path(__file__).with_name("plan.yaml"))))
