"""For runs that look at what sites send: a listener at the server, and a site whose model says what it should not."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from nvflare.apis.dxo import from_shareable
from nvflare.apis.filter import Filter

from fedrlvr.flare import recipe as recipes
from fedrlvr.flare.lead.simulator import prepared_recipe
from fedrlvr.flare.messages import ENVELOPE
from fedrlvr.flare.site import lockdown
from fedrlvr.flare.site.executor import SiteExecutor

lockdown.JOB_CLASSES.add("wiretap.")  # sites would not let a job in that names classes of ours


class Wiretap(Filter):
    """Among the server's filters of results: appends everything that arrives to a file, as text."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def process(self, shareable, fl_ctx):
        heard = {"from": shareable.get_peer_props()["__identity_name__"]}
        heard["headers"] = {n: str(v) for n, v in shareable["__headers__"].items() if n.startswith("fedrlvr.")}
        if "DXO" in shareable:
            dxo = from_shareable(shareable)
            heard |= {"kind": dxo.data_kind.value, "meta": str(dxo.meta), "data": str(dxo.data)[:1_000_000]}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(heard, ensure_ascii=False) + "\n")
        return shareable


class Parrot(SiteExecutor):
    """With RECITED, a site whose model knows its private problems by heart: it proposes what stands in that file."""

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        result = super().execute(task_name, shareable, fl_ctx, abort_signal)
        if "RECITED" in os.environ and task_name == "propose" and result.get_header(ENVELOPE):
            dxo = from_shareable(result)
            dxo.data["responses"] = json.loads(Path(os.environ["RECITED"]).read_text(encoding="utf-8"))
            dxo.update_shareable(result)
        return result


def main(folder: Path, heard: str) -> None:
    """Run a prepared simulation with the wire tapped."""
    recipes.SiteExecutor = Parrot
    recipe, where = prepared_recipe(folder)
    recipe.add_server_input_filter(Wiretap(heard), tasks=recipes.TASKS)
    recipe.execute(where)


if __name__ == "__main__":
    import wiretap  # by its name, so that FLARE finds the classes in the job again

    wiretap.main(Path(sys.argv[1]), sys.argv[2])
