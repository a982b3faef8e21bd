"""types <-> FLARE: what a request and an answer look like on the wire.

A request carries its instructions (JSON) in a header and at most one payload as a DXO; an answer carries exactly one
DXO. Adapters are only ever WEIGHTS (down) or WEIGHT_DIFF (up), responses only ever APP_DEFINED, numbers only ever
METRICS,
so that a site's filters can tell them apart by kind. Both carry the envelope, by which a receiver knows that the
other side runs the same code on the same public problems in the same place of the same job.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

import fedrlvr
from fedrlvr.privacy.guards import Refused
from fedrlvr.types import Adapter, PublicResponse
from fedrlvr.version import PROTOCOL, source_hash

ENVELOPE, INSTRUCTIONS, SECONDS = "fedrlvr.envelope", "fedrlvr.instructions", "fedrlvr.seconds"
ERROR, REFUSAL = "fedrlvr.error", "fedrlvr.refusal"
MAX_REASON = 2000  # characters
MAX_SECONDS = 1e9


def envelope(manifest: str, round_number: int, segment: int) -> dict:
    return {
        "protocol": PROTOCOL,
        "version": fedrlvr.__version__,
        "source": source_hash(),
        "manifest": manifest,
        "round": round_number,
        "segment": segment,
    }


def check_envelope(message: Shareable, expected: dict, keys: Sequence[str] | None = None) -> None:
    """Raises Refused, with both values, where the message's envelope differs in any of `keys` (default: all)."""
    found = message.get_header(ENVELOPE)
    if not isinstance(found, dict):
        raise Refused("the message has no fedrlvr envelope")
    for key in keys or expected:
        if found.get(key) != expected[key]:
            raise Refused(f"{key} differs: the message says {found.get(key)!r}, this side has {expected[key]!r}")


def request(
    envelope: dict,
    instructions: dict,
    adapter: Adapter | None = None,
    responses: Sequence[PublicResponse] | None = None,
) -> Shareable:
    if adapter is not None:
        message = DXO(DataKind.WEIGHTS, data=dict(adapter)).to_shareable()
    elif responses is not None:
        records = [asdict(response) for response in responses]
        message = DXO(DataKind.APP_DEFINED, data={"responses": records}).to_shareable()
    else:
        message = Shareable()
    message.set_header(ENVELOPE, envelope)
    message.set_header(INSTRUCTIONS, instructions)
    return message


def read_request(message: Shareable) -> tuple[dict, Adapter | None]:
    """The instructions (with `responses`, if it carries some) and the adapter, if it carries one. Raises Refused."""
    instructions = message.get_header(INSTRUCTIONS)
    if not isinstance(instructions, dict):
        raise Refused("the request has no instructions")
    if "DXO" not in message:
        return instructions, None
    dxo = _dxo(message, "the request")
    if dxo.data_kind == DataKind.WEIGHTS:
        return instructions, dxo.data
    if dxo.data_kind == DataKind.APP_DEFINED and "responses" in dxo.data:
        return instructions | {"responses": dxo.data["responses"]}, None
    raise Refused(f"a request may carry WEIGHTS or APP_DEFINED responses, not {_name(dxo.data_kind)}")


def answer(task: str, request_message: Shareable, body: dict, delta: Adapter | None, seconds: float) -> Shareable:
    """A worker's answer to one task, as the one DXO kind that this task is allowed to send."""
    if task == "submit":
        dxo = DXO(DataKind.WEIGHT_DIFF, data=dict(delta))
    elif task == "propose":
        records = [
            {name: response[name] for name in ("problem_id", "text", "variant")} for response in body["responses"]
        ]
        dxo = DXO(DataKind.APP_DEFINED, data={"responses": records})
    else:
        dxo = DXO(DataKind.METRICS, data=body)
    message = dxo.to_shareable()
    message.set_header(ENVELOPE, request_message.get_header(ENVELOPE))
    message.set_header(SECONDS, seconds)
    return message


class CouldNot(Refused):
    """The site tried and failed: it may be able to do the next thing."""


def error_answer(reason: str, refusal: bool = False) -> Shareable:
    """`refusal`: the site would not, for a reason that is about the message or the job; otherwise it could not."""
    headers = {ERROR: without_folders(reason)[:MAX_REASON], REFUSAL: refusal}
    return make_reply(ReturnCode.EXECUTION_EXCEPTION, headers=headers)


def without_folders(text: str) -> str:
    """File names without the folders they are in: where things lie at a site is nobody else's business."""
    return re.sub(r"/(?:[^/\s:,;'\"]+/)+", "", text)


ANSWER_KIND = {
    "train": DataKind.METRICS,
    "propose": DataKind.APP_DEFINED,
    "swap": DataKind.METRICS,
    "submit": DataKind.WEIGHT_DIFF,
    "validate": DataKind.METRICS,
}


def read_answer(task: str, message: Shareable, expected: dict) -> tuple[dict, float]:
    """The DXO's data and the seconds the site worked.

    Raises:
        CouldNot: an error answer of a site that tried, with its reason.
        Refused: a site that would not, another envelope than `expected`, no DXO, or another kind than this task's.
    """
    code = message.get_return_code(ReturnCode.OK)
    if code != ReturnCode.OK:
        would_not = message.get_header(REFUSAL) is True
        reason = str(message.get_header(ERROR) or code)[:MAX_REASON]
        raise (Refused if would_not else CouldNot)(_printable(reason))
    check_envelope(message, expected)
    dxo = _dxo(message, f"the answer to {task}")
    if dxo.data_kind != ANSWER_KIND[task]:
        raise Refused(f"{task} is answered by {_name(ANSWER_KIND[task])}, not by {_name(dxo.data_kind)}")
    if not isinstance(dxo.data, dict):  # FLARE lets APP_DEFINED be anything
        raise Refused(f"the answer to {task} holds {type(dxo.data).__name__}, expected a mapping")
    return dxo.data, _seconds(message.get_header(SECONDS))


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor or colour it: the text comes from a site and is shown to the lead."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _seconds(said: object) -> float:
    """What a site says it worked, if that can be."""
    return float(said) if isinstance(said, int | float) and 0 <= said <= MAX_SECONDS else 0.0


def _dxo(message: Shareable, what: str) -> DXO:
    try:
        return from_shareable(message)
    except ValueError as error:
        raise Refused(f"{what} holds no DXO: {error}") from None


def _name(kind: str) -> str:
    return kind.value if isinstance(kind, DataKind) else str(kind)


def adapter_bytes(adapter: Adapter) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in adapter.values())


def response_bytes(responses: Sequence[PublicResponse]) -> int:
    return sum(len(r.problem_id.encode()) + len(r.text.encode()) for r in responses)
