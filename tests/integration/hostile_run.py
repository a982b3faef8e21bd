"""Run a prepared simulation with hostile sites: python hostile_run.py FOLDER PLAN.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hostile import Spoil

from fedrlvr.federation.recipe import TASKS
from fedrlvr.federation.simulator import prepared_recipe

if __name__ == "__main__":
    recipe, where = prepared_recipe(Path(sys.argv[1]))
    recipe.add_client_output_filter(Spoil(json.loads(sys.argv[2])), tasks=TASKS)
    recipe.execute(where)
