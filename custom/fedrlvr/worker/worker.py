"""The resident process of a site: holds model and optimizer, answers one request after another, every rank in step.

Started by `supervisor.py` as `python -m fedrlvr.worker.worker ADDRESS`, alone or by a launcher. The first request is
the set-up. Every request is answered, by its result or by its failure. When the supervisor is gone, so is the worker.
"""

import argparse
import logging
import os
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import TYPE_CHECKING

from fedrlvr.learning.ranks import Ranks
from fedrlvr.loading import loading
from fedrlvr.processes import OWNER_ONLY, die_with
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.requests import REQUESTS
from fedrlvr.worker.launcher import take_place
from fedrlvr.worker.setup import SetUp
from fedrlvr.worker.wire import ANSWER, FAILURE, READY, SET_UP, STOP, Frame, receive, send

if TYPE_CHECKING:
    from fedrlvr.worker.service import Service

LOGGER = logging.getLogger(__name__)
BROKEN = 5  # exit code


def main(address: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # to stderr, which is the worker's log
    os.umask(OWNER_ONLY)  # again, as a container has its own
    take_place()
    _die_with_supervisor(address)
    ranks = Ranks.from_environment(Path(address).parent)
    ranks.gather([None])  # all ranks have met, so every lifeline is there before the request connection
    connection = _connect(address, b"requests") if ranks.rank == 0 else None
    service = None
    while True:
        frame: Frame = ranks.broadcast(receive(connection) if connection else None)
        if frame.kind == STOP:
            break
        if frame.kind == SET_UP:
            service, answer = _set_up(frame, ranks)
        else:
            answer = _answer(service, frame)
        if connection:
            send(connection, answer)
        if answer.broken:
            os._exit(BROKEN)
    if service is not None:
        service.close(save=True)


def _set_up(frame: Frame, ranks: Ranks) -> tuple["Service | None", Frame]:
    try:
        with loading():
            from fedrlvr.worker.service import Service  # not before the lifeline: it loads the large libraries

            service = Service(SetUp.model_validate_json(frame.body), ranks)
        return service, Frame(READY, service.ready.model_dump_json())
    except Exception as error:  # whatever it is, the site cannot take part, and says why
        return None, _failure(error, broken=ranks.world_size > 1)


def _answer(service: "Service | None", frame: Frame) -> Frame:
    """Whatever goes wrong is the answer to this one request: the supervisor decides what it means for the site."""
    if service is None:
        return _failure(RuntimeError("the worker was not set up, or its set-up failed"), broken=False)
    request = None
    try:
        request = REQUESTS[frame.kind].model_validate_json(frame.body)
        answer, tensors = service.answer(request, frame.tensors, frame.ledger)
        return Frame(ANSWER, answer.model_dump_json(), tensors)
    except Exception as error:
        return _failure(error, broken=request is not None and not service.may_go_on(request, error))


def _failure(error: Exception, broken: bool) -> Frame:
    LOGGER.exception("")
    return Frame(FAILURE, Failure.by(error).model_dump_json(), broken=broken)


def _die_with_supervisor(address: str) -> None:
    """Open a second connection, only to notice when the supervisor dies, however it dies. Raises RuntimeError where
    this is rank 0 and it does not reach the supervisor."""
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

    die_with(os.dup(lifeline.fileno()))  # a copy, which lives as long as this process


def _connect(address: str, purpose: bytes) -> Connection:
    connection = Client(address, family="AF_UNIX")
    connection.send_bytes(purpose)
    return connection


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--local_rank", "--local-rank", help="given by DeepSpeed's launcher; LOCAL_RANK says the same")
    main(parser.parse_args().address)
