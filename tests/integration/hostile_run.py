"""Run a prepared simulation with a hostile site: python hostile_run.py FOLDER SITE PLAN.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hostile import Spoil
from nvflare.recipe import SimEnv

from fedrlvr.config import JobConfig
from fedrlvr.federation.recipe import TASKS, PubSwapRecipe

if __name__ == "__main__":
    folder, site, plan = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    inputs = json.loads((folder / "job.json").read_text())
    recipe = PubSwapRecipe(JobConfig.model_validate(inputs["job"]), inputs["public_ids"], inputs["manifest"])
    recipe.add_client_output_filter(Spoil(site, plan, inputs["public_ids"]), tasks=TASKS)
    recipe.execute(
        SimEnv(clients=inputs["sites"], num_threads=len(inputs["sites"]), workspace_root=str(folder / "flare"))
    )
