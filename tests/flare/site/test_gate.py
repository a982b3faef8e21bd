"""The gate between a site and FLARE: only complete and known fedrlvr messages pass."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.filter import ContentBlockedException
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from pydantic_core import to_jsonable_python

from fedrlvr.data.problems import read_problems
from fedrlvr.flare.messages import ENVELOPE, ERROR, RECEIPT, REFUSAL, SECONDS, pack_answer
from fedrlvr.flare.site.gate import EGRESS, SiteGate
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.answers import Failure, ProposeAnswer, StepsAnswer, SubmitAnswer
from fedrlvr.protocol.records import Envelope, Findings, PublicResponse
from fedrlvr.site.closed_gate import NO_POLICY, ClosedGate
from fedrlvr.site.egress import WITHHELD, Egress
from fedrlvr.tasks import TASKS

SPEC = {"x.lora_A.weight": [2, 3], "x.lora_B.weight": [4, 2]}
DELTA = {name: torch.full(shape, 0.5) for name, shape in SPEC.items()}
HERE = Envelope.here("manifest", 1, 7).model_dump()
STEP = {"kind": "private", "segment": 7, "metrics": {"reward": 0.5, "live_groups": 1.0, "groups": 1.0}}
MODELS = {"submit": SubmitAnswer, "propose": ProposeAnswer, "train": StepsAnswer}


@pytest.fixture
def site(site_files, small_job, tmp_path):
    """A site with a policy: `site(policy)` makes its `Egress`, `site.send(message)` returns what the gate releases."""
    _, configs = site_files({"site-1": ("A", "B")})
    config = configs["site-1"]
    public = read_problems(config.public_problems, TASKS["protocol"])

    class Site:
        answers = [PublicResponse(p.id, TASKS["protocol"].gold_completion(p)) for p in public]  # noqa: RUF012 - never changed

        def __init__(self):
            self.context = FLContext()

        def __call__(self, **rules):
            policy = SitePolicy.model_validate(rules, context={"folder": tmp_path / "local"})
            self.egress = Egress("site-1", "job-1", small_job(), config, policy)
            self.egress.adapter_spec = SPEC
            self.egress.asked = {p.id for p in public}
            self.context.set_prop(EGRESS, self.egress, private=True, sticky=True)
            return self

        def send(self, message: Shareable, task: str = "submit") -> Shareable:
            self.context.set_prop(FLContextKey.TASK_NAME, task, private=True, sticky=False)
            return SiteGate().process(message, self.context)

        def propose(self, responses: list[PublicResponse]) -> list[dict]:
            return from_shareable(self.send(result("propose", responses=responses), "propose")).data["responses"]

        @property
        def log(self):
            return list(self.egress.log.entries())

    return Site()


def result(task: str, delta=None, **fields) -> Shareable:
    return pack_answer(task, MODELS[task](envelope=HERE, seconds=1.5, **fields), delta)


def steps(*records: dict) -> Shareable:
    message = result("train", steps=[])
    DXO(DataKind.METRICS, data={"steps": list(records)}).update_shareable(message)
    return message


def error(text: str, would_not: bool = False) -> Shareable:
    return pack_answer("train", Failure.of(text, would_not), None)


def test_what_may_leave_leaves_and_is_written_down(site):
    site()
    sent = site.send(result("submit", delta=DELTA))
    dxo = from_shareable(sent)
    assert dxo.data_kind == DataKind.WEIGHT_DIFF
    assert all(torch.equal(dxo.data[name], DELTA[name]) for name in SPEC)
    assert sent.get_header(ENVELOPE) == HERE
    assert sent.get_header(SECONDS) == 1.5
    assert site.propose(site.answers) == to_jsonable_python(site.answers)
    sent = site.send(steps(STEP), "train")
    assert from_shareable(sent).data == {"steps": [STEP]}
    assert [(e["kind"], e["decision"], e["count"]) for e in site.log] == [
        ("adapter", "released", 2),
        ("responses", "released", len(site.answers)),
        ("metrics", "released", 1),
    ]
    assert all(
        (e["job"], e["site"], e["model"], e["round"], e["segment"]) == ("job-1", "site-1", "tiny", 1, 7)
        for e in site.log
    )
    text = site.egress.log.path.read_text()
    assert not any(a.text in text for a in site.answers)


def test_the_adapter_is_clipped_to_the_sites_norm(site):
    site(adapters={"clip_norm": 0.1})
    sent = from_shareable(site.send(result("submit", delta=DELTA))).data
    norm = sum(float(t.double().square().sum()) for t in sent.values()) ** 0.5
    assert norm == pytest.approx(0.1, rel=1e-6)
    assert norm <= 0.1
    assert site.log[0]["rules"] == {"norm": pytest.approx(0.5 * 14**0.5), "clipped": 1}


def test_how_long_private_steps_took_stays_with_their_numbers(site):
    assert site().send(steps(STEP), "train").get_header(SECONDS) == 1.5
    sent = site(metrics={"private_steps": False}).send(steps(STEP), "train")
    assert sent.get_header(SECONDS) == 0.0
    assert from_shareable(sent).data == {"steps": []}


def test_a_site_that_shares_no_answers_stays_in_the_job(site):
    site(responses={"share": False})
    sent = site.send(result("propose", responses=site.answers), "propose")
    assert sent.get_return_code(ReturnCode.OK) == ReturnCode.OK
    assert from_shareable(sent).data == {"responses": []}
    assert site.log[0]["rules"]["not_shared"] == len(site.answers)


def test_only_problems_of_the_step_under_way_are_answered(site):
    site()
    site.egress.asked = {site.answers[0].problem_id}
    assert site.propose(site.answers) == to_jsonable_python(site.answers[:1])


def test_right_shares_leave_only_where_the_policy_says_so_and_of_what_was_asked(site):
    shares = {answer.problem_id: 0.25 for answer in site.answers} | {"elsewhere": 1.0}
    told = []
    for allowed in (False, True):
        site(metrics={"public_shares": allowed})
        message = result("propose", responses=site.answers, shares=shares)
        told.append(from_shareable(site.send(message, "propose")).data)
    assert told[0] == {"responses": to_jsonable_python(site.answers)}
    asked = {name: share for name, share in shares.items() if name != "elsewhere"}
    assert told[1] == told[0] | {"shares": asked}
    assert [(e["rules"]["shares_told"], e["rules"]["shares_kept_here"]) for e in site.log] == [
        (0, len(shares)),
        (len(asked), 1),
    ]


def test_findings_leave_only_where_the_policy_says_so(site):
    findings = Findings(found=["a"], unsolved=["b", "c"])
    told = []
    for allowed in (False, True):
        site(metrics={"public_shares": allowed})
        told.append(from_shareable(site.send(result("train", steps=[], findings=findings), "train")).data)
    assert told == [{"steps": []}, {"steps": [], "findings": {"found": ["a"], "unsolved": ["b", "c"]}}]
    assert [(e["rules"]["findings_told"], e["rules"]["findings_kept_here"]) for e in site.log] == [(0, 3), (3, 0)]


def test_a_site_that_shares_nothing_announces_nothing(site):
    site(metrics={"public_shares": True}, responses={"share": False})
    message = result("train", steps=[], findings=Findings(found=["a"], unsolved=["b"]))
    assert from_shareable(site.send(message, "train")).data["findings"] == {"found": [], "unsolved": ["b"]}


def test_log_probabilities_leave_only_where_the_policy_says_so(site):
    scored = [replace(answer, logprobs=(-0.5, 0.0)) for answer in site.answers]
    assert site().propose(scored) == []
    assert site.log[0]["rules"]["logprobs"] == len(scored)
    assert site(responses={"logprobs": True}).propose(scored) == to_jsonable_python(scored)


def test_wrong_answers_stay(site):
    site()
    assert (wrong := [replace(answer, text=answer.text[:-2] + "##") for answer in site.answers])
    assert site.propose(wrong) == []
    assert site.log[0]["rules"]["verified"] == len(wrong)


def test_a_job_that_asks_too_often_gets_no_more_even_after_a_restart(site, tmp_path):
    """A name is looked for that happens to be in half of the answers."""
    (tmp_path / "local").mkdir()
    name = site.answers[0].text.split()[0]
    (tmp_path / "local" / "names.txt").write_text(name)
    having = [answer for answer in site.answers if name in answer.text.split()]
    rules = {"names": "names.txt", "max_private_drops": len(having)}
    site(responses=rules)
    site.propose(having)
    assert site.log[0]["rules"]["names"] == len(having)
    site(responses=rules)  # a new process, and the same job
    assert site.propose(site.answers) == []
    assert site.log[1]["rules"]["private_drops"] == len(site.answers)


# A good message with something that does not belong there: other data or meta of its DXO, ...
DXOS = {
    "meta": DXO(DataKind.WEIGHT_DIFF, data=dict(DELTA), meta={"response": "Mrs Smith"}),
    "an unknown kind": DXO(DataKind.ANALYTIC, data={"key": "Mrs Smith"}),
    "whole weights": DXO(DataKind.WEIGHTS, data=dict(DELTA)),
    "a collection": DXO(DataKind.COLLECTION, data={"inner": DXO(DataKind.WEIGHT_DIFF, data=dict(DELTA))}),
    "a tensor with a name": DXO(DataKind.WEIGHT_DIFF, data=DELTA | {"Mrs Smith": torch.ones(3)}),
    "an extra tensor": DXO(DataKind.WEIGHT_DIFF, data=DELTA | {"note": torch.ones(3)}),
    "a tensor less": DXO(DataKind.WEIGHT_DIFF, data=dict(list(DELTA.items())[:1])),
    "half precision": DXO(DataKind.WEIGHT_DIFF, data={n: t.half() for n, t in DELTA.items()}),
    "not finite": DXO(DataKind.WEIGHT_DIFF, data={n: t * float("nan") for n, t in DELTA.items()}),
    "numbers": DXO(DataKind.METRICS, data={"steps": [STEP]}),
    "answers": DXO(DataKind.APP_DEFINED, data={"responses": []}),
}
# The same for other tasks: not an answer to the task.
OTHERS = {
    "numbers with text": ("train", DXO(DataKind.METRICS, data={"steps": [STEP | {"kind": "Mrs Smith"}]})),
    "a number of another name": ("train", DXO(DataKind.METRICS, data={"steps": [STEP | {"metrics": {"Mrs": 1.0}}]})),
    "scores for steps": ("train", DXO(DataKind.METRICS, data={"scores": {}})),
    "answers in a text": ("propose", DXO(DataKind.APP_DEFINED, data={"responses": "Mrs Smith"})),
    "a name beside the answers": ("propose", DXO(DataKind.APP_DEFINED, data={"responses": [], "Mrs Smith": 1})),
    "beside the answers": ("propose", DXO(DataKind.APP_DEFINED, data={"responses": [], "note": "Mrs Smith"})),
    "an answer with more": (
        "propose",
        DXO(
            DataKind.APP_DEFINED,
            data={"responses": [{"problem_id": "p", "text": "t", "note": "Mrs Smith"}]},
        ),
    ),
}
# ... or other headers.
HEADERS = {
    "an unknown header": ("note", "Mrs Smith"),
    "a name as a header": ("Mrs Smith", "note"),
    "a long version": (ENVELOPE, HERE | {"version": "Mrs Smith" * 100}),
    "a field of the envelope": (ENVELOPE, HERE | {"note": "Mrs Smith"}),
    "a text for a number": (ENVELOPE, HERE | {"round": "Mrs Smith"}),
    "no envelope": (ENVELOPE, None),
    "a text for seconds": (SECONDS, "Mrs Smith"),
}


def smuggle(name: str) -> Shareable:
    message = result("submit", delta=DELTA)
    if name in DXOS:
        DXOS[name].update_shareable(message)
    elif name in OTHERS:
        OTHERS[name][1].update_shareable(message)
    elif name in HEADERS:
        message.set_header(*HEADERS[name])
    elif name == "a second part":
        message["note"] = "Mrs Smith"
    else:
        del message["DXO"]
    return message


@pytest.mark.parametrize("name", [*DXOS, *OTHERS, *HEADERS, "a second part", "no DXO"])
def test_anything_more_or_else_is_refused_whole(site, name):
    sent = site().send(smuggle(name), OTHERS[name][0] if name in OTHERS else "submit")
    assert sent.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert "DXO" not in sent
    assert sent.get_header(ERROR).startswith("refused by the site's privacy policy: ")
    assert "Smith" not in json.dumps({k: str(v) for k, v in sent.items()})
    assert [entry["decision"] for entry in site.log] == ["refused"]
    assert "Smith" not in site.egress.log.path.read_text()


def test_errors_say_what_the_policy_lets_them(site):
    failed, refused = error("worker died near Mrs Smith"), error("version differs", would_not=True)
    assert site().send(failed).get_header(ERROR) == "worker died near Mrs Smith"
    site(metrics={"error_text": False})
    assert site.send(failed).get_header(ERROR) == WITHHELD
    assert site.send(refused).get_header(ERROR) == "version differs"
    assert [entry["reason"] for entry in site.log] == [
        "worker died near Mrs Smith",
        "worker died near Mrs Smith",
        "version differs",
    ]
    assert [entry["sha256"] for entry in site.log][1:] == [
        hashlib.sha256(told.encode()).hexdigest() for told in (WITHHELD, "version differs")
    ]
    bare = make_reply(ReturnCode.TASK_ABORTED, headers={"note": "Mrs Smith"})
    sent = site.send(bare)
    assert sent.get_return_code() == ReturnCode.TASK_ABORTED
    assert sent.get_header("note") is None
    made_up = site.send(make_reply("Mrs Smith"))
    assert made_up.get_return_code() == ReturnCode.EXECUTION_EXCEPTION


def test_a_log_that_cannot_be_written_lets_nothing_out(site, tmp_path):
    (tmp_path / "local").touch()  # where the log's folder should be
    for task, message in (
        ("submit", result("submit", delta=DELTA)),
        ("propose", result("propose", responses=site.answers)),
        ("train", steps(STEP)),
        ("train", error("text")),
    ):
        sent = site().send(message, task)
        assert "DXO" not in sent
        assert "egress.jsonl: cannot be read or written" in sent.get_header(ERROR)


def test_a_crash_in_a_rule_lets_nothing_out(site, monkeypatch):
    site()
    monkeypatch.setattr("fedrlvr.site.egress.filter_responses", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # FLARE turns it into TASK_RESULT_FILTER_ERROR, without text
        site.propose(site.answers)
    assert [(e["decision"], e["reason"]) for e in site.log] == [("refused", "ZeroDivisionError")]


def test_without_our_executor_nothing_passes(site):
    with pytest.raises(ContentBlockedException):
        site.send(result("submit", delta=DELTA))
    sent = site.send(error("policy.yaml: response: unknown setting"))
    assert sent.get_header(ERROR) == NO_POLICY
    assert REFUSAL in sent["__headers__"]


def test_a_closed_gate_lets_nothing_but_its_words_out(site):
    site.context.set_prop(EGRESS, ClosedGate("closed", None, "site-1", "job-1"), private=True, sticky=True)
    for message in (result("submit", delta=DELTA), smuggle("a second part"), error("Mrs Smith")):
        sent = site.send(message)
        assert "DXO" not in sent
        assert sent.get_header(ERROR) == "closed"
        assert "Smith" not in json.dumps({k: str(v) for k, v in sent.items()})


def test_every_answer_leaves_with_the_hash_of_its_own_line_in_the_log_whatever_the_worker_says(site):
    """The line is salted, so its hash tells nothing of what else stands in it."""
    site(adapters={"clip_norm": 1.0})
    receipts = []
    for _ in range(2):
        message = result("submit", DELTA)
        message.set_header(RECEIPT, "5ec2e7" + "0" * 58)
        receipts.append(site.send(message).get_header(RECEIPT))
    raw = site.egress.log.path.read_bytes().splitlines()
    assert receipts == [hashlib.sha256(line).hexdigest() for line in raw]
    assert all(len(line["salt"]) == 32 for line in site.log)
