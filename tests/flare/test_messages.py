"""What travels, and what a receiver refuses."""

from __future__ import annotations

import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from fedrlvr.flare.messages import (
    adapter_bytes,
    answer,
    check_envelope,
    envelope,
    error_answer,
    read_answer,
    read_request,
    request,
    response_bytes,
)
from fedrlvr.protocol.refused import Refused
from fedrlvr.types import PublicResponse

HERE = envelope("manifest", round_number=1, segment=7)
ADAPTER = {"x.lora_A.weight": torch.ones(2, 3), "x.lora_B.weight": torch.zeros(4, 2)}


def test_an_adapter_goes_down_as_weights_with_its_instructions():
    message = request(HERE, {"begin_round": True}, adapter=ADAPTER)
    assert from_shareable(message).data_kind == DataKind.WEIGHTS
    instructions, adapter = read_request(message)
    assert instructions == {"begin_round": True}
    assert all(torch.equal(adapter[name], ADAPTER[name]) for name in ADAPTER)


OFFER = {"problem_id": "p", "text": "t", "site": "me", "variant": 3}


def test_responses_go_down_as_app_defined():
    message = request(HERE, {"segments": []}, responses=[PublicResponse("p1", "text", "site-2")])
    assert from_shareable(message).data_kind == DataKind.APP_DEFINED
    instructions, adapter = read_request(message)
    assert adapter is None
    assert instructions["responses"] == [{"problem_id": "p1", "text": "text", "site": "site-2", "variant": 0}]


@pytest.mark.parametrize(
    ("task", "body", "delta", "kind"),
    [
        ("submit", {}, ADAPTER, DataKind.WEIGHT_DIFF),
        ("propose", {"responses": [OFFER]}, None, DataKind.APP_DEFINED),
        ("train", {"metrics": []}, None, DataKind.METRICS),
        ("swap", {"metrics": []}, None, DataKind.METRICS),
        ("validate", {"scores": {}}, None, DataKind.METRICS),
    ],
)
def test_every_task_is_answered_by_its_own_kind(task, body, delta, kind):
    message = answer(task, request(HERE, {}), body, delta, seconds=1.5)
    assert from_shareable(message).data_kind == kind
    data, seconds = read_answer(task, message, HERE)
    assert seconds == 1.5
    assert data.keys() == (delta or body).keys()


def test_a_proposal_carries_problem_text_and_variant_and_nothing_else():
    body = {"responses": [OFFER | {"private_note": "secret"}]}
    data, _ = read_answer("propose", answer("propose", request(HERE, {}), body, None, 0.0), HERE)
    assert data["responses"] == [{"problem_id": "p", "text": "t", "variant": 3}]


@pytest.mark.parametrize("key", ["protocol", "version", "source", "manifest", "round", "segment"])
def test_an_answer_from_elsewhere_is_refused_with_both_values(key):
    message = answer("train", request(HERE | {key: "other"}, {}), {"metrics": []}, None, 0.0)
    with pytest.raises(Refused, match=f"{key} differs: the message says 'other', this side has {HERE[key]!r}"):
        read_answer("train", message, HERE)


def test_a_message_without_envelope_is_refused():
    with pytest.raises(Refused, match="no fedrlvr envelope"):
        check_envelope(Shareable(), HERE)


def test_an_answer_of_another_kind_is_refused():
    smuggled = answer("train", request(HERE, {}), {"metrics": []}, None, 0.0)
    with pytest.raises(Refused, match="submit is answered by WEIGHT_DIFF, not by METRICS"):
        read_answer("submit", smuggled, HERE)


def test_an_error_answer_is_refused_with_its_reason():
    with pytest.raises(Refused, match="the worker died"):
        read_answer("train", error_answer("the worker died"), HERE)
    with pytest.raises(Refused, match="TASK_RESULT_FILTER_ERROR"):
        read_answer("train", make_reply(ReturnCode.TASK_RESULT_FILTER_ERROR), HERE)


def test_a_reason_cannot_steer_the_leads_terminal():
    with pytest.raises(Refused, match=r"^ \[2Jall   is\nwell$"):
        read_answer("train", error_answer("\x1b[2Jall\x07\x9b is\nwell"), HERE)


@pytest.mark.parametrize("data", [[1, 2], 7, "text", True])
def test_an_answer_that_is_no_mapping_is_refused(data):
    """FLARE lets APP_DEFINED hold anything."""
    message = DXO(DataKind.APP_DEFINED, data=data).to_shareable()
    message.set_header("fedrlvr.envelope", HERE)
    with pytest.raises(Refused, match=f"holds {type(data).__name__}, expected a mapping"):
        read_answer("propose", message, HERE)


@pytest.mark.parametrize("said", [float("inf"), float("nan"), -1.0, 10**400, "long", None])
def test_a_site_that_worked_an_impossible_time_worked_none(said):
    message = answer("train", request(HERE, {}), {"metrics": []}, None, said)
    assert read_answer("train", message, HERE)[1] == 0.0


@pytest.mark.parametrize(
    ("dxo", "said"),
    [
        (DXO(DataKind.ANALYTIC, data={"x": 1}), "may carry WEIGHTS or APP_DEFINED responses, not ANALYTIC"),
        (DXO(DataKind.APP_DEFINED, data={"note": "x"}), "not APP_DEFINED"),
        (None, "the request holds no DXO"),
    ],
)
def test_a_request_of_another_kind_is_refused(dxo, said):
    message = dxo.to_shareable() if dxo else Shareable()
    message.setdefault("DXO", "x")
    message.set_header("fedrlvr.instructions", {})
    with pytest.raises(Refused, match=said):
        read_request(message)


def test_sizes_are_those_of_the_payload():
    assert adapter_bytes(ADAPTER) == 4 * (2 * 3 + 4 * 2)
    assert response_bytes([PublicResponse("p1", "äö", "site-2")]) == 2 + 4
