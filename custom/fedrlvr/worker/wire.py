"""Frames between a site's job process and its worker: JSON, then tensors as safetensors. No pickle either way."""

import json
from dataclasses import dataclass
from multiprocessing.connection import Connection

from safetensors.torch import load

from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.types import Adapter

SET_UP, STOP, READY, ANSWER, FAILURE = "set up", "stop", "ready", "answer", "failure"


@dataclass(frozen=True)
class Frame:
    """One message. `kind` is one of the words above, or the task of a request; `body` is the record of that kind as
    JSON. `ledger` is the hash of the site's ledger when a request was sent; `broken` says of a failure that the worker
    cannot go on and ends."""

    kind: str
    body: str = ""
    tensors: Adapter | None = None
    ledger: str = ""
    broken: bool = False


def send(connection: Connection, frame: Frame) -> None:
    """`tensors` None and {} are told apart."""
    head = vars(frame) | {"tensors": frame.tensors is not None}
    connection.send_bytes(json.dumps(head).encode())
    if frame.tensors is not None:
        connection.send_bytes(as_safetensors(frame.tensors))


def receive(connection: Connection) -> Frame:
    """Block until a whole frame is there. Raises EOFError when the other side is gone."""
    head = json.loads(connection.recv_bytes())
    tensors = dict(sorted(load(connection.recv_bytes()).items())) if head["tensors"] else None
    return Frame(**head | {"tensors": tensors})
