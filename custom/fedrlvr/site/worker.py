"""The resident process of a site: holds model and optimizer, serves one request after another, every rank in step.

Started by `supervisor.py` as `python -m fedrlvr.site.worker ADDRESS`, alone or by a launcher. The first request is the
set-up. Every request is answered, by its result or by its error; when the supervisor is gone, so is the worker.
"""

from __future__ import annotations

import argparse
import os
import threading
import traceback
from dataclasses import asdict
from multiprocessing.connection import Client, Connection
from pathlib import Path

from fedrlvr.site.launcher import take_place
from fedrlvr.site.ranks import Ranks
from fedrlvr.site.wire import receive, send
from fedrlvr.types import Adapter


def main(address: str) -> None:
    take_place()
    _die_with_supervisor(address)
    ranks = Ranks.from_environment()
    ranks.gather([None])  # all have met: every lifeline that there will be is there before the request connection
    connection = _connect(address, b"requests") if ranks.rank == 0 else None
    trainer = None
    while True:
        message, tensors = ranks.broadcast(receive(connection) if connection else None)
        if message["task"] == "stop":
            break
        try:
            if message["task"] == "setup":
                trainer, answer, result = _set_up(message, ranks)
            else:
                answer, result = serve(trainer, message, tensors)
        except Exception as error:
            # Whatever went wrong is the answer to this one request: the supervisor decides what it means for the site.
            traceback.print_exc()
            answer, result = {"error": f"{type(error).__name__}: {error}"}, None
        if connection:
            send(connection, answer, result)
    if trainer is not None and ranks.rank == 0:
        trainer.engine.save_adapter(Path(message["state_dir"]) / "adapter")


def serve(trainer, message: dict, tensors: Adapter | None) -> tuple[dict, Adapter | None]:
    """One of the five tasks: plain data in, plain data out."""
    from fedrlvr.algorithms.schedule import Segment
    from fedrlvr.types import PublicResponse

    if trainer is None:
        raise RuntimeError("the worker was not set up, or its set-up failed")
    segments = [Segment(s["index"], s["private_steps"], tuple(s["public_ids"])) for s in message.get("segments", ())]
    match message["task"]:
        case "train":
            if message["begin_round"]:
                trainer.begin_round(tensors)
            return {"metrics": trainer.train(segments, message["exchange"])}, None
        case "propose":
            return {"responses": [asdict(response) for response in trainer.propose(segments[0])]}, None
        case "swap":
            answers = [PublicResponse(**response) for response in message["responses"]]
            return {"metrics": [trainer.swap(segments[0], answers)]}, None
        case "submit":
            return {}, trainer.submit().delta
        case "validate":
            share = tuple(message["share"]) if message["share"] else None
            return {"scores": trainer.validate(tensors, message["samples"], share, message["name"])}, None
    raise ValueError(f"unknown task {message['task']!r}")


def _set_up(message: dict, ranks: Ranks):
    import torch

    from fedrlvr.algorithms.lora import adapter_spec
    from fedrlvr.config import JobConfig
    from fedrlvr.site.build import build_trainer
    from fedrlvr.site_config import SiteConfig

    config = SiteConfig.model_validate(message["site_config"])
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trainer = build_trainer(
        JobConfig.model_validate(message["job"]),
        message["site"],
        config,
        message["manifest"],
        ranks,
        message["propose_from"],
    )
    answer = {
        "adapter_spec": adapter_spec(trainer.engine.adapter()),
        "private_problems": len(trainer.problems.private),
    }
    return trainer, answer, None


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
