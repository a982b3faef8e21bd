"""Run a prepared simulation with a hostile site: python hostile_run.py FOLDER SITE PLAN.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hostile import Spoil

from fedrlvr.flare.lead.simulator import prepared_recipe
from fedrlvr.flare.recipe import TASKS

if __name__ == "__main__":
    site, plan = sys.argv[2], json.loads(sys.argv[3])
    recipe, where = prepared_recipe(Path(sys.argv[1]))
    public_ids = json.loads((Path(sys.argv[1]) / "job.json").read_text())["public_ids"]
    recipe.add_client_output_filter(Spoil(site, plan, public_ids), tasks=TASKS)
    recipe.execute(where)
