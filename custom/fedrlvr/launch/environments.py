"""Prepare a run, new or resumed, and start it where it takes place."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

from fedrlvr.launch.experiment import load_experiment
from fedrlvr.launch.prepared_run import PreparedRun, Say, load_run
from fedrlvr.launch.simulated import prepare_here, start_here
from fedrlvr.run import Run
from fedrlvr.settings_file import SettingsError

FIXED = ("method", "seed", "env", "data", "model", "policy", "poc")  # arguments that a resumed run has already


def prepare(args: argparse.Namespace, say: Say) -> PreparedRun:
    """A new run, or the one that `--resume-from` names. Raises SettingsError."""
    if args.resume_from is None:
        experiment = load_experiment(args.config, args.set, args.tiny, method=args.method, seed=args.seed)
        return _place(args.env or "sim")[0](experiment, args, say)
    for name in FIXED:
        if getattr(args, name) is not None:
            raise SettingsError(f"--{name}: the run that --resume-from names has it already; leave it out")
    if args.tiny or args.rebuild_model:
        raise SettingsError("--tiny, --rebuild-model: the run that --resume-from names is made already; leave them out")
    prepared = load_run(args.resume_from, args.set)
    if args.kit is not None and prepared.environment == "prod":
        prepared = replace(prepared, place=str(args.kit.resolve()))
    say(f"resuming {prepared.folder}")
    return prepared


def start(prepared: PreparedRun, say: Say) -> Run:
    run = _place(prepared.environment)[1](prepared, say)
    prepared.save()  # only now is it certain that no other command uses the folder
    return run


def _place(environment: str) -> tuple[Callable[..., PreparedRun], Callable[[PreparedRun, Say], Run]]:
    """How a run is prepared and started there."""
    if environment in ("local", "sim"):
        return prepare_here, start_here
    from fedrlvr.launch import submitted  # loads FLARE, which a run in this process does without

    return {
        "poc": (submitted.prepare_for_poc, submitted.start_at_poc),
        "prod": (submitted.prepare_for_production, submitted.start_in_production),
    }[environment]
