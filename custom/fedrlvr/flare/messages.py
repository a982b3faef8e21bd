"""The contract's records as FLARE messages, and back.

A request has its envelope and its fields in headers, and at most one payload as a DXO; an answer has exactly one DXO.
Adapters are only ever WEIGHTS (down) or WEIGHT_DIFF (up), responses only ever APP_DEFINED, numbers only ever METRICS: a
site's filters can tell them apart by kind.
"""

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from fedrlvr.protocol.answers import ANSWERS, Answer, Failure, Reply, SubmitAnswer
from fedrlvr.protocol.records import check_same_code
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import REQUESTS, Request
from fedrlvr.protocol.strict import parsed
from fedrlvr.types import Adapter

ENVELOPE, INSTRUCTIONS = "fedrlvr.envelope", "fedrlvr.instructions"
SECONDS, RECEIPT = "fedrlvr.seconds", "fedrlvr.receipt"
ERROR, REFUSAL = "fedrlvr.error", "fedrlvr.refusal"
ANSWER_KIND = {
    "train": DataKind.METRICS,
    "propose": DataKind.APP_DEFINED,
    "swap": DataKind.METRICS,
    "submit": DataKind.WEIGHT_DIFF,
    "validate": DataKind.METRICS,
}


def pack_request(request: Request, adapter: Adapter | None) -> Shareable:
    fields = request.model_dump(mode="json", exclude={"envelope"})
    if adapter is not None:
        message = DXO(DataKind.WEIGHTS, data=dict(adapter)).to_shareable()
    elif "responses" in fields:
        message = DXO(DataKind.APP_DEFINED, data={"responses": fields.pop("responses")}).to_shareable()
    else:
        message = Shareable()
    message.set_header(ENVELOPE, request.envelope.model_dump())
    message.set_header(INSTRUCTIONS, fields)
    return message


def unpack_request(task: str, message: Shareable) -> tuple[Request, Adapter | None]:
    """Raises Refused for anything that is not exactly a request of this task."""
    check_same_code(message.get_header(ENVELOPE))
    fields = message.get_header(INSTRUCTIONS)
    if task not in REQUESTS:
        raise Refused(f"no task is called {task[:80]!r}; known: {', '.join(REQUESTS)}")
    if not isinstance(fields, dict):
        raise Refused("the request has no instructions")
    adapter, payload = None, {}
    if "DXO" in message:
        dxo = dxo_of(message, "the request")
        if dxo.data_kind == DataKind.WEIGHTS:
            adapter = dxo.data
        elif dxo.data_kind == DataKind.APP_DEFINED and isinstance(dxo.data, dict):
            payload = dxo.data
        else:
            raise Refused(f"a request may carry WEIGHTS or APP_DEFINED responses, not {_name(dxo.data_kind)}")
    values = {"envelope": message.get_header(ENVELOPE), **fields, **payload}
    return parsed(REQUESTS[task], values, f"the request {task}"), adapter


def pack_answer(task: str, answer: Answer | Failure, tensors: Adapter | None) -> Shareable:
    """An answer as the one DXO kind that this task is allowed to send, a failure as FLARE's error."""
    if isinstance(answer, Failure):
        headers = {ERROR: answer.reason, REFUSAL: answer.would_not}
        return make_reply(ReturnCode.EXECUTION_EXCEPTION, headers=headers)
    data = dict(tensors) if isinstance(answer, SubmitAnswer) else answer.payload()
    message = DXO(ANSWER_KIND[task], data=data).to_shareable()
    message.set_header(ENVELOPE, answer.envelope.model_dump())
    message.set_header(SECONDS, answer.seconds)
    message.set_header(RECEIPT, answer.receipt)
    return message


def unpack_answer(task: str, message: Shareable) -> Reply:
    """Raises Refused for anything that is neither an answer to this task nor an error."""
    code = message.get_return_code(ReturnCode.OK)
    if code != ReturnCode.OK:
        reason = str(message.get_header(ERROR) or code)
        return Failure.of(reason, would_not=message.get_header(REFUSAL) is True), None
    if task not in ANSWERS:
        raise Refused(f"no task is called {task[:80]!r}")
    what = f"the answer to {task}"
    dxo = dxo_of(message, what)
    if dxo.data_kind != ANSWER_KIND[task]:
        raise Refused(f"{task} is answered by {_name(ANSWER_KIND[task])}, not by {_name(dxo.data_kind)}")
    if not isinstance(dxo.data, dict):  # FLARE lets APP_DEFINED be anything
        raise Refused(f"{what} holds {type(dxo.data).__name__}, expected a mapping")
    tensors, values = (dxo.data, {}) if task == "submit" else (None, dxo.data)
    beside = {"envelope": ENVELOPE, "seconds": SECONDS, "receipt": RECEIPT}
    headers = {field: message.get_header(header) for field, header in beside.items()}
    return parsed(ANSWERS[task], values | headers, what), tensors


def only_dxo(message: Shareable, headers: set[str]) -> DXO:
    """The DXO of a message that holds nothing else but some of these headers. Raises Refused."""
    unknown = (set(message) - {"__headers__", "DXO"}) | (set(message.get("__headers__", {})) - headers)
    if unknown:
        raise Refused(f"the message has an unknown part {min(map(str, unknown))[:80]!r}")
    return dxo_of(message, "the message")


def dxo_of(message: Shareable, what: str) -> DXO:
    """Raises Refused, with `what` the message is, where it holds none."""
    try:
        return from_shareable(message)
    except ValueError as error:
        raise Refused(f"{what} holds no DXO: {error}") from None


def _name(kind: object) -> str:
    return kind.value if isinstance(kind, DataKind) else str(kind)[:80]
