"""A run that died goes on where it ran: after its last completed round, in its own folder, as another job."""

from __future__ import annotations

import argparse

from rich.console import Console

from fedrlvr.launch.prepared_run import PreparedRun, load_run
from fedrlvr.launch.simulated import begin_here
from fedrlvr.launch.submitted import again_to_poc, again_to_production
from fedrlvr.run import Run
from fedrlvr.settings_file import SettingsError

ENVIRONMENTS = {"local": begin_here, "sim": begin_here, "poc": again_to_poc, "prod": again_to_production}
BROUGHT = ("method", "seed", "env", "data", "model", "policy", "poc")  # arguments that the run has already


def resume(args: argparse.Namespace, console: Console) -> tuple[Run, PreparedRun]:
    """Raises SettingsError where `--resume-from` names no run, or other arguments say something else of it."""
    for name in BROUGHT:
        if getattr(args, name) is not None:
            raise SettingsError(f"--{name}: the run that --resume-from names has it; leave it out")
    if args.tiny or args.rebuild_model:
        raise SettingsError("--tiny, --rebuild-model: the run that --resume-from names is made; leave them out")
    prepared = load_run(args.resume_from, args.set)
    console.print(f"goes on with {prepared.folder}", markup=False, highlight=False, soft_wrap=True)
    return ENVIRONMENTS[prepared.environment](prepared, args, console), prepared
