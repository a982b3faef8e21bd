"""Whole runs in this process with real agents, gates, workers and trainers; only the transport is not FLARE's."""

import json
import math
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.runs import events_of, of, round_adapters, run_here, spec_of

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.launch.local import LocalRun, LocalTask, LocalTransport
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.answers import Failure
from fedrlvr.report.summary import summarise
from fedrlvr.run import RunFailed
from fedrlvr.sealed_folder import check_seal, sealed_folders
from fedrlvr.server.client_manager import Message
from fedrlvr.settings_file import load_settings

SITES = {"site-1": ("A",), "site-2": ("B",)}
TWO_ROUNDS = {"federation__rounds": 2, "federation__segments_per_round": 2, "federation__min_sites": 2}


@pytest.fixture
def sites(site_files):
    return site_files(SITES)[1]


def test_a_run_leaves_adapters_events_and_its_workers_adapters(small_job, sites, tmp_path):
    events, run = run_here(tmp_path / "run", spec_of(small_job(**TWO_ROUNDS), sites), sites)
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert [e["round"] for e in of(events, "round")] == [0, 1]
    assert [e["sites"] for e in of(events, "average")] == [["site-1", "site-2"]] * 2
    assert len({*round_adapters(run)}) == 2  # each round moved the adapter
    assert events_of(run) == events
    steps = of(events, "step")
    assert {(e["site"], e["kind"]) for e in steps} == {(s, k) for s in SITES for k in ("private", "public")}
    assert sum(e["completions"] for e in steps) == 2 * 2 * 2 * 2 * 16  # sites, rounds, segments, steps, 4 x 4
    assert sum(e["swap/completions"] for e in steps if e["kind"] == "public") > 0
    assert all(math.isfinite(e["time"]) for e in events)
    for config in sites.values():
        assert load_file(config.state_dir / "adapter" / "adapter_model.safetensors")
    assert "site-1" in json.dumps(events[-1]["site_seconds"])


def test_events_tell_what_was_exchanged_and_the_sites_logs_whose_answers_took_a_place(small_job, sites, tmp_path):
    """Each site's problems have labels of its own, so it solves those and gets answers to the other's."""
    events, _ = run_here(tmp_path / "run", spec_of(small_job(**TWO_ROUNDS), sites), sites)
    for event in of(events, "exchange"):
        assert sum(sum(problems.values()) for problems in event["offers"].values()) == event["offered"]
        assert event["pools"].keys() == {"site-1", "site-2"}
        assert all(set(senders) <= SITES.keys() - {receiver} for receiver, senders in event["pools"].items())
    for site, config in sites.items():
        written = map(json.loads, (config.state_dir / "completions.jsonl").read_text().splitlines())
        swaps = [line for line in written if "origin" in line]
        counted = {
            e["segment"]: e["swap/completions"]
            for e in of(events, "step")
            if (e["site"], e["kind"]) == (site, "public")
        }
        assert sum(counted.values()) > 0
        assert counted == {segment: sum(line["segment"] == segment for line in swaps) for segment in counted}
        assert all(line["origin"] != site and line["reward"] == 1 > line["instead_of"]["reward"] for line in swaps)


def test_the_same_seed_ends_in_the_same_bytes_and_another_does_not(small_job, site_files, tmp_path):
    _, sites = site_files(SITES)
    runs = [
        run_here(tmp_path / str(n), spec_of(small_job(seed=seed), sites), sites)[1] for n, seed in enumerate((0, 0, 1))
    ]
    one, again, other = (round_adapters(run) for run in runs)
    assert one == again != other


@pytest.mark.parametrize("method", [name for name in METHODS if name != "centralised"])
def test_every_method_takes_as_many_steps_and_samples_as_much(small_job, sites, tmp_path, method):
    """`centralised` is the same with all problems at one site; the demo's own command runs it."""
    events, run = run_here(tmp_path / "run", spec_of(small_job(method=method), sites), sites)
    what = METHODS[method]
    steps = of(events, "step")
    assert {site: sum(e["site"] == site for e in steps) for site in SITES} == dict.fromkeys(SITES, 4)
    assert sum(e["completions"] for e in steps) == 2 * 4 * 16
    public = [e for e in steps if e["kind"] == "public"]
    assert bool(public) == what.public_step
    assert (sum(e["swap/completions"] for e in public) > 0) == what.exchange
    assert bool(of(events, "exchange")) == what.exchange
    assert bool(of(events, "average")) == what.average
    told = summarise(events, wall_seconds=1.0)
    assert (told["bytes"]["responses"]["up"] > 0) == (told["swap"]["fraction"] > 0) == what.exchange
    assert (told["bytes"]["adapter"]["up"] > 0) == what.average
    assert (run.server_folder / "rounds").exists() == what.average


def test_no_two_methods_end_in_the_same_adapter(small_job, sites, tmp_path):
    averaging = [name for name, what in METHODS.items() if what.average and not what.pooled_data]
    ended = {
        name: round_adapters(run_here(tmp_path / name, spec_of(small_job(method=name), sites), sites)[1])[-1]
        for name in averaging
    }
    assert len({*ended.values()}) == len(averaging) == 5


def test_replace_all_trains_on_nothing_but_the_pool_where_there_is_one(small_job, sites, tmp_path):
    """Correct answers come from the other site, so a step swaps all 4 completions of a group or none."""
    swapped = {}
    for method in ("replace-all", "pubswap"):
        events, _ = run_here(tmp_path / method, spec_of(small_job(method=method), sites), sites)
        swapped[method] = [e["swap/completions"] for e in of(events, "step") if e["kind"] == "public"]
    assert all(count % 4 == 0 for count in swapped["replace-all"])
    assert sum(swapped["replace-all"]) > sum(swapped["pubswap"]) > 0


class Scripted(LocalTransport):
    """`script` maps (task, site) to a function that may answer in place of the agent."""

    def __init__(self, agents, script):
        super().__init__(agents)
        self.script, self.sent = script, []

    def send(self, site, message: Message, timeout, changed):
        self.sent.append((message.request.task, site, message.adapter is not None))
        act = self.script.get((message.request.task, site))
        answered = act(self, message) if act else None
        return answered or super().send(site, message, timeout, changed)


def failing(times: int, failure: Failure):
    """The first `times` requests fail without reaching the site."""
    left = [times]

    def act(transport, message):
        left[0] -= 1
        return _over(failure) if left[0] >= 0 else None

    return act


def _over(answer):
    return LocalTask(lambda: (answer, None))


def test_a_site_that_failed_is_back_in_the_next_segment_with_the_rounds_adapter(small_job, sites, tmp_path):
    job = small_job(federation__segments_per_round=3)
    script = {("train", "site-2"): failing(1, Failure.of("disk full"))}
    transports = []

    def transport(agents):
        transports.append(Scripted(agents, script))
        return transports[0]

    events, _ = run_here(tmp_path / "run", spec_of(job, sites), sites, new_transport=transport)
    assert [(e["site"], e["task"], e["reason"]) for e in of(events, "failure")] == [("site-2", "train", "disk full")]
    assert [(e["segment"], e["sites"]) for e in of(events, "back")] == [(1, ["site-2"])]
    trains = [(site, adapter) for task, site, adapter in transports[0].sent if task == "train"]
    assert trains == [
        ("site-1", True), ("site-2", True), ("site-1", False), ("site-2", True), ("site-1", False), ("site-2", False),
    ]  # fmt: skip
    assert [e["sites"] for e in of(events, "average")] == [["site-1", "site-2"]]


def test_a_site_that_refused_is_out_until_the_next_round(small_job, sites, tmp_path):
    script = {("train", "site-2"): failing(1, Failure.of("not this job", would_not=True))}
    job = small_job(federation__rounds=2)
    events, _ = run_here(
        tmp_path / "run", spec_of(job, sites), sites, new_transport=lambda agents: Scripted(agents, script)
    )
    assert not of(events, "back")
    assert [e["sites"] for e in of(events, "average")] == [["site-1"], ["site-1", "site-2"]]


@pytest.mark.parametrize("late", [False, True], ids=["from the start", "in a later round"])
def test_a_site_with_another_base_model_takes_part_in_no_average(small_job, site_files, tmp_path, late):
    """The run names no base model, as where the lead has none: what most sites have counts."""
    _, sites = site_files(dict.fromkeys(("site-1", "site-2", "site-3"), ("A", "B")))
    other = shutil.copytree(sites["site-3"].model_path, tmp_path / "other")
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"of": "somebody else"}))
    sites["site-3"] = sites["site-3"].model_copy(update={"model_path": other})
    script = {("validate", "site-3"): failing(int(late), Failure.of("not ready"))}
    how = {"new_transport": lambda agents: Scripted(agents, script)}
    events, _ = run_here(tmp_path / "run", spec_of(small_job(**TWO_ROUNDS), sites, base_model=None), sites, **how)
    failures = [(e["site"], e["reason"].partition(":")[0]) for e in of(events, "failure")]
    assert ("site-3", "base model differs") in failures
    assert [e["sites"] for e in of(events, "average")] == [["site-1", "site-2"]] * 2
    assert late or len(failures) == 1  # it is not asked again


def test_below_the_quorum_the_run_ends_with_the_reason_and_can_be_resumed(small_job, sites, tmp_path):
    """The resumed run ends in the same bytes as an undisturbed one."""
    job = small_job(**TWO_ROUNDS)
    spec = spec_of(job, sites)
    calm = run_here(tmp_path / "calm", spec_of(job, sites), sites)[1]
    lost = {("submit", "site-2"): _in_round(1, "gone for good")}
    with pytest.raises(RunFailed, match=r"only 1 of 2 sites are left.*site-2 failed in submit: gone for good"):
        run_here(tmp_path / "run", spec, sites, new_transport=lambda agents: Scripted(agents, lost))
    folder = tmp_path / "run"
    stopped = json.loads((folder / "local" / "server" / "metrics.jsonl").read_text().splitlines()[-1])
    assert stopped["event"] == "stopped"
    events, run = run_here(folder, spec.model_copy(update={"resume": True}), sites)
    assert [e["after"] for e in of(events, "resumed")] == [0]
    assert [e["event"] for e in events].count("end") == 1
    assert round_adapters(run)[-1] == round_adapters(calm)[-1]
    assert (folder / "local-1").is_dir()  # the first attempt is still there


def _in_round(number: int, reason: str):
    def act(transport, message):
        return _over(Failure.of(reason)) if message.request.envelope.round == number else None

    return act


def test_a_run_is_not_resumed_with_other_settings(small_job, sites, tmp_path):
    spec = spec_of(small_job(), sites)
    run_here(tmp_path / "run", spec, sites)
    other = spec.model_copy(update={"job": small_job(grpo__epsilon=0.3), "resume": True})
    with pytest.raises(RunFailed, match="was of a job with other settings"):
        run_here(tmp_path / "run", other, sites)


def test_an_interruption_ends_a_run_at_once_and_another_command_can_resume_it(small_job, sites, tmp_path):
    def interrupt(transport, message):
        raise KeyboardInterrupt

    spec = spec_of(small_job(), sites)
    with pytest.raises(KeyboardInterrupt):
        run_here(tmp_path / "run", spec, sites, new_transport=lambda a: Scripted(a, {("propose", "site-2"): interrupt}))
    events, _ = run_here(tmp_path / "run", spec.model_copy(update={"resume": True}), sites)
    assert events[-1]["event"] == "end"


def test_two_commands_cannot_use_one_local_run(small_job, sites, tmp_path):
    run = LocalRun(tmp_path / "run", spec_of(small_job(), sites), sites)
    with pytest.raises(ValueError, match="another command uses this folder"):
        LocalRun(tmp_path / "run", spec_of(small_job(), sites), sites)
    run.close()


def test_a_bad_line_stops_only_that_site_and_is_reported_without_its_folder(small_job, sites, tmp_path):
    bad = sites["site-2"].private_problems
    bad.write_text(bad.read_text() + '{"id": "x"}\n')
    events, _ = run_here(tmp_path / "run", spec_of(small_job(), sites), sites)
    reasons = {e["reason"] for e in of(events, "failure")}
    assert reasons == {"ProblemFileError: site-2.jsonl, line 17, field prompt: missing"}
    assert [e["sites"] for e in of(events, "average")] == [["site-1"]]
    with pytest.raises(RunFailed, match="field prompt: missing"):
        run_here(tmp_path / "other", spec_of(small_job(federation__min_sites=2), sites), sites)


def test_sites_that_cannot_start_are_named_with_their_reasons_and_the_run_fails(small_job, site_files, tmp_path):
    _, three = site_files({"site-1": ("A",), "site-2": ("B",), "site-3": ("C",)})
    three["site-2"] = three["site-2"].model_copy(update={"model_path": Path("/nonexistent")})
    path = three["site-3"].private_problems
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"answer"', '"anwser"'), *lines[2:]]))
    with pytest.raises(RunFailed) as failure:
        run_here(tmp_path / "run", spec_of(small_job(federation__min_sites=2), three), three)
    assert "only 1 of 3 sites are left, federation.min_sites is 2" in str(failure.value)
    assert "site-2 failed in validate: model_path: no config.json in /nonexistent" in str(failure.value)
    assert "site-3 failed in validate: ProblemFileError: " in str(failure.value)
    assert "site-3.jsonl, line 2, field anwser: unknown; known are id, prompt" in str(failure.value)


def test_a_server_that_cannot_keep_a_round_stops_and_says_where_and_keeps_the_rounds_before(small_job, sites, tmp_path):
    spec = spec_of(small_job(federation__rounds=3, method="fedavg"), sites)
    run, kept = LocalRun(tmp_path / "run", spec, sites), tmp_path / "run" / "server" / spec.run
    seen = []

    def hear(event):
        seen.append(event["event"])
        if event["event"] == "round":
            (kept / "round-000001.tmp").write_text("a plain file where a folder should be")

    with closing(run), pytest.raises(RunFailed) as failure:
        run.run(hear)
    assert "the server cannot keep what the run does: [Errno 17] File exists: " in str(failure.value)
    assert str(kept / "round-000001.tmp") in str(failure.value)
    assert [path.name for path in sealed_folders(kept)] == ["round-000000"]
    check_seal(kept / "round-000000")
    assert seen[-1] == "stopped"


def test_a_sites_policy_is_applied_and_logged(small_job, sites, tmp_path):
    config = sites["site-2"]
    config.state_dir.mkdir(parents=True)
    policy = config.state_dir / "policy.yaml"
    policy.write_text(
        "adapters: {clip_norm: 0.001}\nresponses: {share: false}\nmetrics: {private_steps: false, heldout: none}\n"
    )
    with_policy = sites | {"site-2": config.model_copy(update={"policy": policy})}
    events, _ = run_here(tmp_path / "run", spec_of(small_job(), sites), with_policy)
    steps = {(e["site"], e["kind"]) for e in of(events, "step")}
    assert steps == {("site-1", "private"), ("site-1", "public"), ("site-2", "public")}
    assert all(not e["bytes_up"].get("site-2") for e in of(events, "exchange"))
    assert any(e["bytes_up"]["site-1"] for e in of(events, "exchange"))
    entries = list(EgressLog(load_settings(SitePolicy, policy).log).entries())
    assert {e["kind"] for e in entries} == {"adapter", "responses", "metrics"}
    (clipped,) = [e["rules"] for e in entries if e["kind"] == "adapter"]
    assert clipped["clipped"] == 1
