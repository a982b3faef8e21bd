"""The filter for any FLARE PyTorch job: a bounded, noised, accounted difference, or nothing."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.filter import ContentBlockedException, FilterChainType, FilterContextKey
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply

from fedrlvr.flare.site.adapter_filter import AdapterFilter
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.ledger import Ledger
from fedrlvr.privacy.mechanism import l2_norm
from fedrlvr.protocol.adapters import as_safetensors
from fedrlvr.settings_file import SettingsError

WEIGHTS = {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.zeros(2, np.float32)}
STEP = {"fc.weight": np.full((2, 3), 0.5, np.float32), "fc.bias": np.full(2, -1.0, np.float32)}


class Job:
    """One job at one site. As in privacy.json, the same filter is applied to data and to results."""

    def __init__(self, folder, job_id: str = "job-1", **rules):
        self.folder, self.context = folder, FLContext()
        engine = SimpleNamespace(get_workspace=lambda: SimpleNamespace(get_site_config_dir=lambda: str(folder)))
        self.context.get_engine = lambda: engine
        self.context.get_identity_name, self.context.get_job_id = lambda: "ward-7", lambda: job_id
        self.context.set_prop(FLContextKey.TASK_NAME, "train", private=True, sticky=False)
        self.coming, self.going = (AdapterFilter(**({"model": "cnn", "clip_norm": 1.0} | rules)) for _ in range(2))
        self.coming.set_prop(FilterContextKey.CHAIN_TYPE, FilterChainType.TASK_DATA_CHAIN)
        self.going.set_prop(FilterContextKey.CHAIN_TYPE, FilterChainType.TASK_RESULT_CHAIN)

    def receive(self, weights=WEIGHTS, rounds: int | None = 3, current: int = 0) -> None:
        message = DXO(DataKind.WEIGHTS, data=dict(weights)).to_shareable()
        message.set_header("current_round", current)
        if rounds is not None:
            message.set_header("num_rounds", rounds)
        self.coming.process(message, self.context)

    def send(self, kind=DataKind.WEIGHT_DIFF, data=STEP, meta=None, spoil=lambda message: None) -> DXO:
        message = DXO(kind, data=dict(data), meta=meta or {}).to_shareable()
        message.set_header("current_round", 0)
        spoil(message)
        return from_shareable(self.going.process(message, self.context))

    @property
    def log(self):
        return list(EgressLog(self.folder / "fedrlvr-egress.jsonl").entries())


def tensors(data) -> dict:
    return {name: torch.as_tensor(value) for name, value in data.items()}


def test_a_difference_is_clipped_and_written_down(tmp_path):
    job = Job(tmp_path)
    job.receive()
    sent = job.send(meta={"NUM_STEPS_CURRENT_ROUND": 12})
    norm = (6 * 0.25 + 2) ** 0.5
    for name, value in STEP.items():
        assert isinstance(sent.data[name], np.ndarray)
        np.testing.assert_allclose(sent.data[name], value / norm, rtol=1e-6)
    assert sent.meta["NUM_STEPS_CURRENT_ROUND"] == 12
    (entry,) = job.log
    assert entry["rules"] == {"norm": pytest.approx(norm), "clipped": 1}
    assert entry["sha256"] == hashlib.sha256(as_safetensors(tensors(sent.data))).hexdigest()


def test_whole_weights_differ_from_the_received_ones_by_the_clip_norm_at_most(tmp_path):
    job = Job(tmp_path)
    job.receive()
    sent = job.send(DataKind.WEIGHTS, {name: WEIGHTS[name] + STEP[name] for name in STEP})
    difference = {name: torch.as_tensor(sent.data[name] - WEIGHTS[name]) for name in STEP}
    assert sent.data_kind == DataKind.WEIGHTS
    assert l2_norm(difference) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("kind", [DataKind.WEIGHTS, DataKind.WEIGHT_DIFF])
def test_training_in_place_is_clipped_too(tmp_path, kind):
    weights = {"w": np.zeros(4, np.float32)}
    job, message = Job(tmp_path), DXO(DataKind.WEIGHTS, data=weights).to_shareable()
    job.coming.process(message, job.context)
    weights["w"] += 100  # as FLARE's own NPTrainer does
    sent = job.send(kind, weights)
    assert float(np.linalg.norm(sent.data["w"])) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_tensors_of_any_precision(tmp_path, dtype):
    job = Job(tmp_path)
    job.receive({"w": torch.ones(4, dtype=dtype)})
    sent = job.send(data={"w": torch.full((4,), 2.0, dtype=dtype)})
    assert sent.data["w"].dtype == dtype
    assert float(sent.data["w"].double().norm()) == pytest.approx(1.0, rel=1e-2)


def test_noise_is_paid_for_until_the_budget_is_spent_over_jobs_and_restarts(tmp_path):
    rules = {"noise_multiplier": 2.0, "max_epsilon": 4.4}  # four releases cost 4.377
    for number in range(2):
        job = Job(tmp_path, f"job-{number}", **rules)
        job.receive(rounds=2)
        sent = [job.send().data for _ in range(2)]
        assert not np.array_equal(sent[0]["fc.weight"], sent[1]["fc.weight"])
    assert [round(entry["rules"]["epsilon"], 3) for entry in job.log] == [1.993, 2.943, 3.709, 4.377]
    with pytest.raises(ContentBlockedException, match="the privacy budget for 'cnn' is spent"):
        job.send()
    with pytest.raises(ContentBlockedException, match=r"its limit is 4\.4"):
        Job(tmp_path, "job-2", **rules).receive(rounds=1)
    Job(tmp_path, "job-2", model="other", **rules).receive(rounds=4)
    assert len(job.log) == 5
    assert job.log[3]["ledger"] == Ledger(tmp_path / "fedrlvr-ledger.jsonl", None).last_hash()


def test_a_job_that_plans_too_much_is_refused_before_it_trains(tmp_path):
    job = Job(tmp_path, noise_multiplier=2.0, max_epsilon=4.4)
    job.receive(rounds=4)
    with pytest.raises(ContentBlockedException, match="this job's plan would bring the site to epsilon"):
        job.receive(rounds=5)
    job.receive(rounds=5, current=1)  # a round is over
    with pytest.raises(ContentBlockedException, match="how many rounds are planned"):
        job.receive(rounds=None)
    Job(tmp_path, noise_multiplier=2.0, max_epsilon=4.4, rounds=3).receive(rounds=None)


def test_a_ledger_that_was_replaced_by_an_older_one_is_noticed(tmp_path):
    job = Job(tmp_path, noise_multiplier=2.0)
    job.receive(rounds=1)
    job.send()
    for path in tmp_path.glob("fedrlvr-ledger.jsonl*"):
        path.unlink()
    with pytest.raises(ContentBlockedException, match="lines are missing that the egress log has seen"):
        Job(tmp_path, noise_multiplier=2.0).receive(rounds=1)


SPOILT = {
    "another kind": {"kind": DataKind.METRICS, "data": {"loss": 1.0}},
    "a tensor more": {"data": STEP | {"note": np.zeros(3, np.float32)}},
    "a tensor less": {"data": {"fc.bias": STEP["fc.bias"]}},
    "another shape": {"data": STEP | {"fc.bias": np.zeros(3, np.float32)}},
    "another precision": {"data": STEP | {"fc.bias": np.zeros(2, np.float64)}},
    "not an array": {"data": STEP | {"fc.bias": "Mrs Smith"}},
    "not finite": {"data": STEP | {"fc.bias": np.full(2, np.nan, np.float32)}},
    "a text in meta": {"meta": {"note": "Mrs Smith"}},
    "a text for a number": {"meta": {"NUM_STEPS_CURRENT_ROUND": "Mrs Smith"}},
    "metrics that are not allowed": {"meta": {"initial_metrics": {"accuracy": 0.5}}},
    "a header": {"spoil": lambda message: message.set_header("note", "Mrs Smith")},
    "a text for a round": {"spoil": lambda message: message.set_header("start_round", "Mrs Smith")},
    "a number that says too much": {"meta": {"NUM_STEPS_CURRENT_ROUND": int.from_bytes(b"Mrs Smith", "big")}},
    "a number without end": {"meta": {"NUM_STEPS_CURRENT_ROUND": 10**400}},
    "a second part": {"spoil": lambda message: message.update({"note": "Mrs Smith"})},
    "no DXO": {"spoil": lambda message: message.pop("DXO")},
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_anything_more_or_else_is_refused(tmp_path, spoilt):
    job = Job(tmp_path)
    job.receive()
    with pytest.raises(ContentBlockedException):
        job.send(**spoilt)
    assert [entry["decision"] for entry in job.log] == ["refused"]
    assert "Smith" not in job.log[0]["reason"]


def test_metrics_where_the_site_allows_them(tmp_path):
    job = Job(tmp_path, metrics=True)
    job.receive()
    assert job.send(meta={"initial_metrics": {"accuracy": 0.5}}).meta["initial_metrics"] == {"accuracy": 0.5}
    for metrics in ({"accuracy": "Mrs Smith"}, {"a" * 65: 1.0}, {"loss": float("nan")}, "Mrs Smith"):
        with pytest.raises(ContentBlockedException):
            job.send(meta={"initial_metrics": metrics})


def test_without_received_weights_nothing_is_sent(tmp_path):
    with pytest.raises(ContentBlockedException, match="no weights came with this task"):
        Job(tmp_path).send()
    job = Job(tmp_path)
    job.receive({"steps": np.zeros(2, np.int64)})
    with pytest.raises(ContentBlockedException, match="only floating-point numbers can be clipped"):
        job.send(data={"steps": np.ones(2, np.int64)})


def test_an_error_goes_back_without_anything_else(tmp_path):
    job = Job(tmp_path)
    sent = job.going.process(make_reply(ReturnCode.EXECUTION_EXCEPTION, headers={"note": "Mrs Smith"}), job.context)
    assert sent.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert sent.get_header("note") is None
    assert isinstance(sent, Shareable)


@pytest.mark.parametrize(
    "rules", [{"clip_norm": 0.0}, {"clip_norm": 1.0, "max_epsilon": 1.0}, {"clip_norm": 1.0, "delta": 2.0}]
)
def test_impossible_rules_are_refused_when_the_site_starts(rules):
    with pytest.raises(SettingsError, match="AdapterFilter"):
        AdapterFilter(model="cnn", **rules)
