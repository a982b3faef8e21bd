"""Before anything is computed: a site that has not what the job or the others have is told so, with both values."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from nvflare.apis.signal import Signal

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.flare.messages import answer, envelope, read_answer, request
from fedrlvr.flare.site import executor as executors
from fedrlvr.flare.site.executor import SiteExecutor
from fedrlvr.protocol.refused import Refused
from fedrlvr.run import new_run
from fedrlvr.server.client_manager import QuorumLost, Sites
from fedrlvr.server.rounds import Rounds
from fedrlvr.site.fingerprint import model_fingerprint

HERE = envelope("manifest", 0, 0)
SPEC = {"a.lora_A.weight": [8, 64], "a.lora_B.weight": [64, 8]}
SCORES = {"test": {"A": {"problems": 4, "pass@1": 0.5}}}
INSTRUCTIONS = {"round": -1, "samples": 1, "share": None, "name": "base 0"}


class NoWorker:
    """Stands for the supervisor: no worker may start in these tests unless `answers` says what it would answer."""

    answers: dict | None = None

    def __init__(self, job, site, config, manifest, **more):
        self.running, self.adapter_spec, self.private_problems = False, None, 0
        self.rounds_done, self.ledger = 0, ""

    def start(self):
        assert self.answers is not None, "a worker was started"
        self.running, self.adapter_spec = True, SPEC

    def request(self, message, tensors=None):
        return dict(self.answers), None


@pytest.fixture
def ask_site(site_files, small_job, monkeypatch):
    """ask_site(envelope, base_model) -> the data of a real executor's answer. Raises what it refuses with."""
    _, configs = site_files({"site-1": ("A",)})
    local = configs["site-1"].state_dir.parent
    local.mkdir(parents=True)
    (local / "fedrlvr.yaml").write_text(yaml.safe_dump(configs["site-1"].model_dump(mode="json")))
    monkeypatch.setattr(executors, "Supervisor", NoWorker)
    workspace = SimpleNamespace(get_site_config_dir=lambda: str(local))
    context = SimpleNamespace(
        get_identity_name=lambda: "site-1", get_engine=lambda: SimpleNamespace(get_workspace=lambda: workspace)
    )

    def ask(place=HERE, base_model=None, task="validate", instructions=INSTRUCTIONS, adapter=None):
        executor = SiteExecutor(small_job().model_dump_json(), "manifest", new_run(), base_model=base_model)
        reply = executor.execute(task, request(place, instructions, adapter), context, Signal())
        return read_answer(task, reply, place)[0]

    ask.model_path = configs["site-1"].model_path
    return ask


@pytest.mark.parametrize("key", ["protocol", "version", "source", "manifest"])
def test_a_server_with_other_code_or_problems_is_refused_with_both_values(ask_site, key):
    with pytest.raises(Refused, match=f"{key} differs: the message says 'other', this side has {HERE[key]!r}"):
        ask_site(HERE | {key: "other"})


def test_a_job_for_another_base_model_is_refused_with_both_values(ask_site):
    own = model_fingerprint(ask_site.model_path)
    with pytest.raises(Refused, match=f"base model differs: the job is for 0123456789abcdef, this site has {own}"):
        ask_site(base_model="0123456789abcdef")


def test_a_site_says_which_base_model_it_has(ask_site, monkeypatch):
    monkeypatch.setattr(NoWorker, "answers", {"scores": SCORES})
    own = model_fingerprint(ask_site.model_path)
    assert ask_site() == ask_site(base_model=own) == {"scores": SCORES, "adapter_spec": SPEC, "base_model": own}


def test_another_adapter_is_refused_with_both_hashes(ask_site, monkeypatch):
    monkeypatch.setattr(NoWorker, "answers", {})
    segment = {"index": 0, "private_steps": 1, "public_ids": []}
    instructions = {"round": 0, "segments": [segment], "exchange": False, "begin_round": True, "adapter_spec": "ab12"}
    with pytest.raises(Refused, match=r"adapter spec differs: the server says ab12, this site's model gives \w{16}"):
        ask_site(task="train", instructions=instructions, adapter=initial_adapter(SPEC, 0))


def test_weights_that_cannot_be_read_are_an_error_of_the_site(ask_site, monkeypatch, tmp_path):
    def damaged(folder: Path) -> str:
        (tmp_path / "model.safetensors").write_bytes(b"")
        return model_fingerprint(tmp_path)

    monkeypatch.setattr(executors, "model_fingerprint", damaged)
    with pytest.raises(Refused, match=r"^model.safetensors: not a safetensors file"):
        ask_site()


def welcome(small_job, models: dict[str, str], min_sites: int):
    """The controller's first exchange with sites that differ in their base model only."""

    class Transport:
        def send(self, task, fl_ctx, targets):
            body = {"scores": SCORES, "adapter_spec": SPEC, "base_model": models[targets[0]]}
            reply = answer("validate", task.data, body, None, 0.0)
            client_task = SimpleNamespace(id="task", result=reply)
            task.after_task_sent_cb(client_task, None)
            task.result_received_cb(client_task, None)
            task.completion_status = "ok"

    failures = []
    event_log = SimpleNamespace(write=lambda *event, **values: None)
    sites = Sites(
        Transport(), None, Signal(), sorted(models), min_sites,
        deadline=10.0, first_deadline=10.0, pickup_deadline=1.0, on_failure=lambda **f: failures.append(f),
    )  # fmt: skip
    sites.begin_round()
    rounds = Rounds(small_job(), ["p"], "manifest", sites, event_log, store=None, folder=None)
    return rounds._welcome(), failures


def test_sites_with_another_base_model_than_most_are_out_with_both_values(small_job):
    models = {"site-1": "b" * 16, "site-2": "a" * 16, "site-3": "a" * 16}
    adapter, failures = welcome(small_job, models, min_sites=2)
    reason = f"base model differs: most sites have {'a' * 16}, this one {'b' * 16}"
    assert failures == [{"site": "site-1", "task": "validate", "reason": reason}]
    assert torch.equal(adapter["a.lora_B.weight"], torch.zeros(64, 8))
    assert {name: list(tensor.shape) for name, tensor in adapter.items()} == SPEC
    with pytest.raises(QuorumLost, match=reason):
        welcome(small_job, models, min_sites=3)


def test_a_site_that_does_not_say_its_base_model_is_out(small_job):
    with pytest.raises(QuorumLost, match="base_model must be a fingerprint of 16 hex digits"):
        welcome(small_job, {"site-1": "a" * 16, "site-2": None}, min_sites=2)
