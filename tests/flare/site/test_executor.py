"""FLARE's executor and the gate behind it: what the server is told of a request that is refused before it is read."""

from types import SimpleNamespace

import pytest
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from tests.runs import spec_of

from fedrlvr.flare.messages import ENVELOPE, pack_request, unpack_answer
from fedrlvr.flare.site import executor as executor_module
from fedrlvr.flare.site.executor import SiteExecutor
from fedrlvr.flare.site.gate import NO_POLICY, SiteGate
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.protocol.records import Envelope
from fedrlvr.protocol.requests import SubmitRequest


@pytest.fixture
def site(site_files, job, monkeypatch):
    """site(policy's text, request) -> what leaves a site with that policy, after executor and gate; and its folder."""
    _, configs = site_files({"site-1": ("A",)})
    local = configs["site-1"].state_dir.parent
    monkeypatch.setattr(executor_module, "check_only_way_out", lambda fl_ctx: None)

    local.mkdir(exist_ok=True)

    def answer(policy: str, request: Shareable):
        (local / "policy.yaml").write_text(policy)
        configs["site-1"].model_copy(update={"policy": local / "policy.yaml"}).write(local / "fedrlvr.yaml")
        context = FLContext()
        engine = SimpleNamespace(get_workspace=lambda: SimpleNamespace(get_site_config_dir=lambda: str(local)))
        context.get_engine = lambda: engine
        context.get_identity_name, context.get_job_id = lambda: "site-1", lambda: "job-1"
        context.set_prop(FLContextKey.TASK_NAME, "submit", private=True, sticky=False)
        executor = SiteExecutor(spec_of(job, configs).model_dump_json())
        message = executor.execute("submit", request, context, Signal())
        return unpack_answer("submit", SiteGate().process(message, context))[0]

    answer.local = local
    return answer


def submit(**envelope) -> Shareable:
    message = pack_request(SubmitRequest(envelope=Envelope.here("hash", 0, 0)), None)
    message.set_header(ENVELOPE, message.get_header(ENVELOPE) | envelope)
    return message


def test_a_site_with_a_policy_says_that_it_has_other_code(site):
    failure = site("{}", submit(source="0" * 64))
    assert failure.would_not
    assert failure.reason.startswith(f"source differs: the message says '{'0' * 64}', this side has ")
    assert [entry["kind"] for entry in EgressLog(site.local / "fedrlvr-egress.jsonl").entries()] == ["error"]


def test_a_policy_that_cannot_be_read_lets_no_reason_out(site):
    failure = site("response: {share: false}", submit())
    assert failure.reason == NO_POLICY
