"""The resident process of a site: holds model and optimizer, serves one request after another, every rank in step.

Started by `supervisor.py` as `python -m fedrlvr.worker.worker ADDRESS`, alone or by a launcher. The first request is
the set-up. Every request is answered, by its result or by its error; when the supervisor is gone, so is the worker.
"""

from __future__ import annotations

import argparse
import os
import threading
import traceback
from contextlib import nullcontext
from dataclasses import asdict
from multiprocessing.connection import Client, Connection
from pathlib import Path

from fedrlvr.learning.ranks import Ranks
from fedrlvr.types import Adapter
from fedrlvr.worker.checkpoint import NotThere
from fedrlvr.worker.launcher import take_place
from fedrlvr.worker.wire import receive, send
from fedrlvr.worker.worker_log import note

BROKEN = 5  # exit code


def main(address: str) -> None:
    take_place()
    _die_with_supervisor(address)
    ranks = Ranks.from_environment()
    ranks.gather([None])  # all have met: every lifeline that there will be is there before the request connection
    connection = _connect(address, b"requests") if ranks.rank == 0 else None
    recovery = None
    while True:
        message, tensors = ranks.broadcast(receive(connection) if connection else None)
        if message["task"] == "stop":
            break
        broken = False
        try:
            if message["task"] == "setup":
                recovery, answer, result = _set_up(message, ranks)
            else:
                answer, result = serve(recovery, message, tensors)
        except Exception as error:
            # Whatever went wrong is the answer to this one request: the supervisor decides what it means for the site.
            note(traceback.format_exc())
            broken = _half_done(message["task"], error, ranks)
            answer, result = {"error": f"{type(error).__name__}: {error}", "broken": broken}, None
        if connection:
            send(connection, answer, result)
        if broken:
            os._exit(BROKEN)
    if recovery is not None and ranks.rank == 0:
        recovery.trainer.engine.save_adapter(Path(message["state_dir"]) / "adapter")


def _half_done(task: str, error: Exception, ranks: Ranks) -> bool:
    """Whether an error may have left the policy between two places, or the ranks out of step with each other. Then only
    a new worker, from the last checkpoint, can be trusted."""
    return not isinstance(error, NotThere) and (task in ("train", "swap") or ranks.world_size > 1)


def serve(recovery, message: dict, tensors: Adapter | None) -> tuple[dict, Adapter | None]:
    """One of the five tasks: plain data in, plain data out. What moved the policy is saved before it is answered."""
    from fedrlvr.algorithms.schedule import Segment
    from fedrlvr.types import PublicResponse

    if recovery is None:
        raise RuntimeError("the worker was not set up, or its set-up failed")
    trainer, task, ledger = recovery.trainer, message["task"], message.get("ledger", "")
    segments = [Segment(s["index"], s["private_steps"], tuple(s["public_ids"])) for s in message.get("segments", ())]
    if task == "train":
        recovery.enter_round(message["round"], message["begin_round"], tensors, ledger)
    elif tensors is None and message["round"] >= 0:
        recovery.expect_round(message["round"])
    match task:
        case "train":
            return {"metrics": _kept(trainer.train(segments, message["exchange"]), recovery, ledger)}, None
        case "propose":
            return {"responses": [asdict(response) for response in trainer.propose(segments[0])]}, None
        case "swap":
            answers = [PublicResponse(**response) for response in message["responses"]]
            return {"metrics": _kept([trainer.swap(segments[0], answers)], recovery, ledger)}, None
        case "submit":
            return {}, trainer.submit().delta
        case "validate":
            share = tuple(message["share"]) if message["share"] else None
            before_the_first = message["round"] < 0
            with trainer.engine.policy.model.disable_adapter() if before_the_first else nullcontext():
                return {"scores": trainer.validate(tensors, message["samples"], share, message["name"])}, None
    raise ValueError(f"unknown task {task!r}")


def _kept(metrics: list[dict], recovery, ledger: str) -> list[dict]:
    if not recovery.keep(ledger) and metrics:
        metrics[-1]["checkpoint/failed"] = 1.0
    return metrics


def _set_up(message: dict, ranks: Ranks):
    import torch

    from fedrlvr.algorithms.lora import adapter_spec
    from fedrlvr.config import JobConfig
    from fedrlvr.learning.build import build_trainer
    from fedrlvr.run_identity import run_identity
    from fedrlvr.site_config import SiteConfig
    from fedrlvr.worker.checkpoint import SiteCheckpoints
    from fedrlvr.worker.recovery import Recovery

    config = SiteConfig.model_validate(message["site_config"])
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    job, site, manifest = JobConfig.model_validate(message["job"]), message["site"], message["manifest"]
    trainer = build_trainer(job, site, config, manifest, ranks, message["propose_from"])
    spec = adapter_spec(trainer.engine.adapter())
    identity = run_identity(job, manifest, site=site, spec=spec, processes=ranks.world_size)
    checkpoints = SiteCheckpoints(config.state_dir / "checkpoints", message["run"], identity, ranks)
    recovery = Recovery(trainer, checkpoints)
    checkpoints.claim()
    if message["recover"]:
        recovery.recover()
    else:
        checkpoints.clear()
    answer = {
        "adapter_spec": spec,
        "private_problems": len(trainer.problems.private),
        "rounds_done": max(0, trainer.progress.round),
        "ledger": recovery.ledger,
    }
    return recovery, answer, None


def _die_with_supervisor(address: str) -> None:
    """Hold a second connection whose only use is to break when the supervisor dies, however it dies.

    Raises:
        RuntimeError: this is rank 0, and the supervisor is out of its reach.
    """
    try:
        lifeline = _connect(address, b"lifeline")
    except OSError as error:
        if os.environ["RANK"] == "0":
            raise RuntimeError(
                f"rank 0 does not reach its supervisor at {address} ({error.strerror or error}); worker.launch must "
                "start it on the machine of the site's FLARE client, with that folder in sight"
            ) from None
        # A rank on another machine has no lifeline and needs none: the next collective breaks when rank 0 is gone.
        return

    def watch(lifeline: Connection) -> None:
        try:
            lifeline.recv_bytes()
        except (EOFError, OSError):
            os._exit(3)

    threading.Thread(target=watch, args=(lifeline,), daemon=True).start()


def _connect(address: str, purpose: bytes) -> Connection:
    connection = Client(address, family="AF_UNIX")
    connection.send_bytes(purpose)
    return connection


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--local_rank", "--local-rank", help="given by DeepSpeed's launcher; LOCAL_RANK says the same")
    main(parser.parse_args().address)
