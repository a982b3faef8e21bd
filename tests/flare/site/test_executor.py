"""FLARE's executor and the gate behind it: what the server is told of a request that is refused before it is read."""

from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from tests.runs import spec_of

from fedrlvr.flare.messages import ENVELOPE, pack_request, unpack_answer
from fedrlvr.flare.site import executor as executor_module
from fedrlvr.flare.site.executor import SiteExecutor
from fedrlvr.flare.site.gate import SiteGate
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.protocol.answers import Failure
from fedrlvr.protocol.records import Envelope
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.requests import SubmitRequest
from fedrlvr.site.closed_gate import NO_LOG, NO_POLICY, OTHER_SPEC, OWN_FILES


@pytest.fixture
def site(site_files, job, monkeypatch):
    """site(policy's text, request, ...) -> what leaves a site with that policy, after executor and gate; and its
    folder. `spoil` gets the folder before."""
    _, configs = site_files({"site-1": ("A",)})
    local = configs["site-1"].state_dir.parent
    monkeypatch.setattr(executor_module, "check_only_way_out", lambda fl_ctx: None)

    local.mkdir(exist_ok=True)

    def answer(policy: str, request: Shareable, spoil=lambda local: None, spec: str | None = None):
        (local / "policy.yaml").write_text(policy)
        configs["site-1"].model_copy(update={"policy": local / "policy.yaml"}).write(local / "fedrlvr.yaml")
        spoil(local)
        context = FLContext()
        engine = SimpleNamespace(get_workspace=lambda: SimpleNamespace(get_site_config_dir=lambda: str(local)))
        context.get_engine = lambda: engine
        context.get_identity_name, context.get_job_id = lambda: "site-1", lambda: "job-1"
        context.set_prop(FLContextKey.TASK_NAME, "submit", private=True, sticky=False)
        executor = SiteExecutor(spec or spec_of(job, configs).model_dump_json())
        message = executor.execute("submit", request, context, Signal())
        return unpack_answer("submit", SiteGate().process(message, context))[0]

    answer.local, answer.log = local, EgressLog(local / "fedrlvr-egress.jsonl")
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
    assert not site.log.path.exists()


def typo(local: Path) -> None:
    file = local / "fedrlvr.yaml"
    file.write_text(file.read_text().replace("private_problems:", "private_problem:"))


def no_private_file(local: Path) -> None:
    Path(yaml.safe_load((local / "fedrlvr.yaml").read_text())["private_problems"]).unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(typo, "private_problem: unknown setting"), (no_private_file, "private_problems: no such file")],
)
def test_a_site_file_that_cannot_be_used_is_named_and_its_reason_is_in_the_log_alone(site, spoil, reason):
    failure = site("metrics: {error_text: true}", submit(), spoil)
    assert failure == Failure(reason=OWN_FILES)
    (entry,) = site.log.entries()
    assert (entry["kind"], entry["task"], entry["job"]) == ("error", "submit", "job-1")
    assert reason in entry["reason"]
    assert entry["sha256"] == sha256(OWN_FILES.encode()).hexdigest()


def test_where_no_log_is_known_or_none_can_be_written_fixed_words_say_what_is_wrong(site):
    for spoil in (
        lambda local: (local / "fedrlvr.yaml").unlink(),
        lambda local: (local / "fedrlvr.yaml").write_text("policy: [a"),
        lambda local: (local / "fedrlvr.yaml").write_text("policy: {a: 1}"),
        lambda local: (local / "policy.yaml").unlink(),
    ):
        assert site("{}", submit(), spoil).reason == OWN_FILES
        assert not site.log.path.exists()
    site.log.path.mkdir()
    assert site("{}", submit(), typo).reason == NO_LOG


def test_a_way_past_the_gate_and_a_job_of_another_version_are_named_and_logged(site, monkeypatch):
    said = site("{}", submit(), spec='{"new": 1}').reason
    monkeypatch.setattr(executor_module, "check_only_way_out", refuse)
    assert (said, site("{}", submit()).reason) == (OTHER_SPEC, NO_POLICY)
    first, second = (entry["reason"] for entry in site.log.entries())
    assert first.startswith("the job's spec, ")
    assert second == "there is another way"


def refuse(fl_ctx) -> None:
    raise Refused("there is another way")
