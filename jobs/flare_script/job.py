"""Federated RLVR from a FLARE script: problems, model, sites, recipe, environment. Under a minute on two CPU cores.

python jobs/flare_script/job.py                                # in FLARE's simulator
python jobs/flare_script/job.py --track                        # the same, with FLARE's TensorBoard tracking
python jobs/flare_script/job.py --export --export-dir fl_job   # FLARE's own flags: write the job and run nothing
"""

import argparse
import sys
import time
from pathlib import Path

from nvflare.recipe import SimEnv
from nvflare.recipe.utils import add_experiment_tracking

from fedrlvr.config import JobConfig
from fedrlvr.flare.lead.simulated_sites import quiet_log, server_folder, simulated_workspace
from fedrlvr.flare.live_events import read_events
from fedrlvr.flare.recipe import PubSwapRecipe
from fedrlvr.flare.trackers import check_tracker
from fedrlvr.launch.experiment import spec_on
from fedrlvr.printable import print_error
from fedrlvr.report.screen import Screen
from fedrlvr.report.summary import summarise
from fedrlvr.report.table import print_summary
from fedrlvr.server.event_log import EVENTS_FILE
from fedrlvr.settings_file import validate_settings
from fedrlvr.shipped import shipped
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model
from fedrlvr.tiny.generated import GeneratedData, write_generated

FOLDER = Path("workspace/flare_script").resolve()
DATA, FLARE = FOLDER / "data", FOLDER / "flare"
SITES = {"site-1": ("A", "B"), "site-2": ("C", "D")}  # the types of problems that each site has
SETTINGS = {  # what all sites agree on
    "name": "flare_script",
    "task": "protocol",
    "model": "tiny",
    "grpo": {"num_generations": 8, "prompts_per_step": 8, "max_completion_length": 24},
    "optimizer": {"learning_rate": 3e-3},
    "federation": {"rounds": 2, "segments_per_round": 4, "min_sites": 2},
}
JOB = validate_settings(JobConfig, SETTINGS, "SETTINGS")


def site(name: str, model: Path) -> SiteConfig:
    """What a site owns, and no job can set. A real site has this as its local/fedrlvr.yaml."""
    return SiteConfig(
        model=JOB.model,
        model_path=model,
        private_problems=DATA / f"{name}.jsonl",
        public_problems=DATA / "public.jsonl",
        test_problems=DATA / "test.jsonl",
        deepspeed_config=shipped("deepspeed")["zero0"],
        state_dir=FOLDER / "sites" / name,
        threads=1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--track", action="store_true", help="TensorBoard events at the server")
    args = parser.parse_args()
    if args.track:
        check_tracker("tensorboard")
    task = TASKS[JOB.task]
    write_generated(GeneratedData(sites=SITES, public=16, test_per_label=16), task, JOB.seed, DATA)
    model = base_model(task, task, BaseModelSettings(steps=200, batch_size=32), FOLDER / "models")

    recipe = PubSwapRecipe(spec_on(DATA / "public.jsonl", DATA / "test.jsonl", JOB))
    if args.track:
        add_experiment_tracking(recipe, "tensorboard")
    workspace = simulated_workspace(FLARE, JOB.name, {name: site(name, model) for name in SITES})
    kept, began = server_folder(workspace), time.monotonic()
    print(f"FLARE's logs:   {workspace}/*/log.txt")
    print("The run begins. It takes a minute or two, and says nothing meanwhile.", flush=True)
    recipe.execute(SimEnv(clients=list(SITES), workspace_root=str(FLARE), log_config=quiet_log(workspace)))

    events = read_events(kept / EVENTS_FILE, limited=False)
    if not events or events[-1]["event"] != "end":
        raise ValueError(f"the run has stopped: {events[-1].get('reason') if events else 'see the logs'}")
    print_summary(summarise(events, time.monotonic() - began), Screen())
    print(f"adapter (PEFT): {kept / 'rounds' / str(JOB.federation.rounds - 1)}")
    print(f"every number:   {kept / EVENTS_FILE}")
    if args.track:
        print(f"TensorBoard:    tensorboard --logdir {kept.parent / 'tb_events'}")
    print(f"a page of it:   fedrlvr report {FOLDER}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        print_error(error)
        sys.exit(2)
