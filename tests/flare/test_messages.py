"""The contract's records on FLARE's messages: which kind carries what, and what a receiver refuses."""

import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from fedrlvr.flare.messages import (
    ENVELOPE,
    INSTRUCTIONS,
    RECEIPT,
    SECONDS,
    pack_answer,
    pack_request,
    unpack_answer,
    unpack_request,
)
from fedrlvr.protocol.answers import Failure, ProposeAnswer, StepsAnswer, SubmitAnswer, ValidateAnswer
from fedrlvr.protocol.records import Envelope, PublicResponse, Segment, SiteScores, StepRecord
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import ProposeRequest, SubmitRequest, SwapRequest, TrainRequest, ValidateRequest

HERE = Envelope.here("manifest", 1, 7)
ADAPTER = {"x.lora_A.weight": torch.ones(2, 3), "x.lora_B.weight": torch.zeros(4, 2)}
SEGMENT = Segment(7, 1, ("p1", "p2"))
STEP = StepRecord.of("private", 7, {"reward": 0.5, "live_groups": 1.0, "groups": 1.0})
SCORES = SiteScores(test={"A": {"problems": 4.0, "pass@1": 0.5}})
SCORED = PublicResponse("p1", "text", 3, (-1 / 3, 0.0))
REQUESTS = [
    (TrainRequest(envelope=HERE, segments=[SEGMENT], exchange=True, begin_round=True, adapter_spec="ab"), ADAPTER),
    (ProposeRequest(envelope=HERE, segment=SEGMENT), None),
    (SwapRequest(envelope=HERE, segment=SEGMENT, responses=[("site-2", PublicResponse("p1", "text", 3))]), None),
    (SwapRequest(envelope=HERE, segment=SEGMENT, responses=[("site-2", SCORED)], targets={"p2": 1 / 3}), None),
    (SubmitRequest(envelope=HERE, receipt="0f" * 32), None),
    (ValidateRequest(envelope=HERE, samples=2, share=(0, 3), name="global 7"), ADAPTER),
    (ValidateRequest(envelope=HERE, samples=2, share=None, name="local 7"), None),
]
ANSWERS = [
    ("submit", SubmitAnswer(envelope=HERE, seconds=1.5, receipt="0f" * 32), ADAPTER, DataKind.WEIGHT_DIFF),
    ("propose", ProposeAnswer(envelope=HERE, responses=[PublicResponse("p", "t", 3)]), None, DataKind.APP_DEFINED),
    ("propose", ProposeAnswer(envelope=HERE, responses=[SCORED], shares={"p1": 0.1}), None, DataKind.APP_DEFINED),
    ("train", StepsAnswer(envelope=HERE, steps=[STEP]), None, DataKind.METRICS),
    ("swap", StepsAnswer(envelope=HERE, steps=[]), None, DataKind.METRICS),
    (
        "validate",
        ValidateAnswer(envelope=HERE, scores=SCORES, adapter_spec={"x": [2, 3]}, base_model="0" * 16),
        None,
        DataKind.METRICS,
    ),
]


@pytest.mark.parametrize(("request_", "adapter"), REQUESTS, ids=lambda value: type(value).__name__)
def test_a_request_is_the_same_on_the_other_side(request_, adapter):
    message = pack_request(request_, adapter)
    understood, tensors = unpack_request(request_.task, message)
    assert understood.model_dump() == request_.model_dump()
    if adapter is not None:
        assert from_shareable(message).data_kind == DataKind.WEIGHTS
        assert all(torch.equal(tensors[name], adapter[name]) for name in adapter)
    elif isinstance(request_, SwapRequest):
        assert from_shareable(message).data_kind == DataKind.APP_DEFINED
    else:
        assert "DXO" not in message


@pytest.mark.parametrize(("task", "answer", "tensors", "kind"), ANSWERS, ids=lambda value: str(value)[:8])
def test_every_task_is_answered_by_its_own_kind(task, answer, tensors, kind):
    message = pack_answer(task, answer, tensors)
    assert from_shareable(message).data_kind == kind
    understood, received = unpack_answer(task, message)
    assert understood.model_dump() == answer.model_dump()
    assert (received or {}).keys() == (tensors or {}).keys()


def test_a_proposal_carries_problem_text_and_variant_and_nothing_else():
    message = pack_answer("propose", ANSWERS[1][1], None)
    assert from_shareable(message).data == {"responses": [{"problem_id": "p", "text": "t", "variant": 3}]}


def test_an_answer_of_another_kind_is_refused():
    smuggled = pack_answer("train", ANSWERS[2][1], None)
    with pytest.raises(Refused, match="submit is answered by WEIGHT_DIFF, not by METRICS"):
        unpack_answer("submit", smuggled)
    with pytest.raises(Refused, match="the answer to validate, scores: Field required"):
        unpack_answer("validate", smuggled)


def test_a_failure_comes_with_its_reason_and_says_whether_the_site_refused():
    for failure in (Failure.of("the worker died"), Failure.of("not this job", would_not=True)):
        assert unpack_answer("train", pack_answer("train", failure, None)) == (failure, None)
    died = make_reply(ReturnCode.TASK_RESULT_FILTER_ERROR)
    assert unpack_answer("train", died) == (Failure.of("TASK_RESULT_FILTER_ERROR"), None)


@pytest.mark.parametrize("data", [[1, 2], 7, "text", True])
def test_an_answer_that_is_no_mapping_is_refused(data):
    """FLARE lets APP_DEFINED hold anything."""
    message = DXO(DataKind.APP_DEFINED, data=data).to_shareable()
    with pytest.raises(Refused, match=f"holds {type(data).__name__}, expected a mapping"):
        unpack_answer("propose", message)


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        (ENVELOPE, None, "the answer to train, envelope: "),
        (ENVELOPE, {"round": 1}, "the answer to train, envelope.protocol: "),
        (ENVELOPE, HERE.model_dump() | {"round": None}, "the answer to train, envelope.round: "),
        (SECONDS, "long", "the answer to train, seconds: "),
        (SECONDS, float("nan"), "the answer to train, seconds: "),
        (RECEIPT, None, "the answer to train, receipt: "),
        (RECEIPT, "0F" * 32, "the answer to train, receipt: "),
        (RECEIPT, "Mrs Smith", "the answer to train, receipt: "),
    ],
)
def test_an_answer_without_its_headers_is_refused(header, value, said):
    message = pack_answer("train", ANSWERS[2][1], None)
    message.set_header(header, value)
    with pytest.raises(Refused, match=said):
        unpack_answer("train", message)


@pytest.mark.parametrize("field", ["protocol", "version", "source"])
def test_other_code_is_named_before_its_request_is_read(field):
    """Its fields may be others: what is wrong is the version, and not that a field is missing."""
    message = pack_request(REQUESTS[0][0], None)
    message.set_header(INSTRUCTIONS, {"of": "the future"})
    message.set_header(ENVELOPE, HERE.model_dump() | {field: "0.9"})
    said = f"{field} differs: the message says '0.9', this side has {getattr(HERE, field)!r}"
    with pytest.raises(Refused, match=said):
        unpack_request("train", message)


@pytest.mark.parametrize(
    ("dxo", "said"),
    [
        (DXO(DataKind.ANALYTIC, data={"x": 1}), "may carry WEIGHTS or APP_DEFINED responses, not ANALYTIC"),
        (DXO(DataKind.APP_DEFINED, data={"note": "x"}), "the request submit, note: Extra inputs"),
        (None, "the request holds no DXO"),
    ],
)
def test_a_request_of_another_kind_is_refused(dxo, said):
    message = dxo.to_shareable() if dxo else Shareable()
    message.setdefault("DXO", "x")
    message.set_header(INSTRUCTIONS, {})
    message.set_header(ENVELOPE, HERE.model_dump())
    with pytest.raises(Refused, match=said):
        unpack_request("submit", message)


def test_a_request_without_instructions_or_of_no_task_is_refused():
    bare = Shareable()
    bare.set_header(ENVELOPE, HERE.model_dump())
    with pytest.raises(Refused, match="has no instructions"):
        unpack_request("submit", bare)
    with pytest.raises(Refused, match="no task is called 'stop'; known: train, propose"):
        unpack_request("stop", pack_request(SubmitRequest(envelope=HERE), None))
