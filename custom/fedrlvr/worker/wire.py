"""Frames between a site's job process and its worker: JSON, then tensors as safetensors. No pickle in either
direction."""

from __future__ import annotations

import json
from multiprocessing.connection import Connection

from safetensors.torch import load, save

from fedrlvr.types import Adapter


def send(connection: Connection, message: dict, tensors: Adapter | None = None) -> None:
    """Send one frame. `message` must be JSON; `tensors` None and {} are told apart."""
    connection.send_bytes(json.dumps({"message": message, "tensors": tensors is not None}).encode())
    if tensors is not None:
        connection.send_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def receive(connection: Connection) -> tuple[dict, Adapter | None]:
    """Receive one frame, blocking. Raises EOFError when the other side is gone."""
    head = json.loads(connection.recv_bytes())
    tensors = load(connection.recv_bytes()) if head["tensors"] else None
    return head["message"], tensors
