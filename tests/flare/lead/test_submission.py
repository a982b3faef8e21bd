"""A submission to a scripted server, which answers, refuses, loses jobs and becomes unreachable."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from nvflare.fuel.flare_api.api_spec import (
    AuthenticationError,
    AuthorizationError,
    InternalError,
    JobNotRunning,
    NoConnection,
    NoReply,
)
from tests.runs import heard, some_spec

from fedrlvr.flare.lead import followed_job, submission
from fedrlvr.flare.lead.session import FlareSession, Unreachable
from fedrlvr.flare.lead.submission import Submission
from fedrlvr.run import RunFailed

EVENTS = [{"event": "start"}, {"event": "step", "site": "site-1"}, {"event": "end"}]


class Server:
    """Each status request gets the next of `statuses`, and the last one again and again. `told[i]` is the answer to the
    i-th live request: a number of events, another answer, or an error to raise."""

    def __init__(self, statuses=("SUBMITTED", "RUNNING", "RUNNING", "FINISHED:COMPLETED"), told=(1, 1), **meta):
        self.statuses, self.told, self.meta = list(statuses), list(told), meta
        self.events, self.calls, self.drops = EVENTS, [], 0

    def connect(self):
        self.calls.append("connect")
        return self

    def close(self):
        self.calls.append("close")

    def get_connected_client_list(self):
        return [SimpleNamespace(name="site-2"), SimpleNamespace(name="site-1")]

    def submit_job(self, folder):
        assert (Path(folder) / "meta.json").is_file()
        self.calls.append("submit")
        return "j-1"

    def get_job_meta(self, job):
        if self.drops:
            self.drops -= 1
            raise NoConnection("gone")
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return {"status": status} | self.meta

    def do_app_command(self, job, topic, question):
        assert (job, topic) == ("j-1", "fedrlvr.events")
        first, count = question["from"], self.told.pop(0) if self.told else 0
        if isinstance(count, Exception):
            raise count
        if not isinstance(count, int):
            return count
        return {"events": self.events[first : first + count], "next": first + count}

    def abort_job(self, job):
        self.calls.append("abort")
        self.statuses = ["RUNNING", "FINISHED:ABORTED"]

    def download_job_result(self, job, destination):
        self.calls.append("download")
        kept = Path(destination) / job / "workspace" / "fedrlvr"
        (kept / "rounds").mkdir(parents=True)
        (kept / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in self.events))
        return str(Path(destination) / job)


@pytest.fixture
def submit(tmp_path, job, monkeypatch):
    monkeypatch.setattr(submission, "POLL", 0.0)
    monkeypatch.setattr(followed_job, "POLL", 0.0)

    def make(server: Server, notes: list | None = None, **more) -> Submission:
        spec = some_spec(job, **more)
        note = [].append if notes is None else notes.append
        made = Submission(tmp_path / "run", spec, server.connect, note)
        made._session._pause = 0.0
        return made

    return make


def test_events_not_received_live_come_from_the_result_and_none_comes_twice(submit):
    server = Server()
    run = submit(server)
    assert heard(run) == EVENTS
    assert (run.server_folder / "rounds").is_dir()
    assert server.calls == ["connect", "submit", "download", "close"]


def test_a_job_that_has_only_just_begun_does_not_answer_yet(submit):
    assert heard(submit(Server(told=[InternalError("no such topic"), 2]))) == EVENTS


def test_without_the_right_to_follow_the_lead_gets_a_note_and_the_result(submit):
    notes = ["-"]
    assert heard(submit(Server(told=[AuthorizationError("no")]), notes)) == EVENTS
    assert sum("gives no app_command" in note for note in notes) == 1


def test_after_a_lost_connection_a_new_session_is_opened(submit):
    server, notes = Server(), ["-"]
    run = submit(server, notes)
    server.drops = 2
    assert heard(run) == EVENTS
    assert server.calls.count("connect") == 3
    assert any("trying again" in note for note in notes)
    assert any("in reach again" in note for note in notes)


def test_an_unreachable_server_is_given_up_and_the_note_says_that_the_job_continues(submit):
    server, notes = Server(), ["-"]
    run = submit(server, notes)
    run._session._patience = 0.0
    server.drops = 10**6
    with pytest.raises(Unreachable, match="no connection to the server for 0 s: gone"):
        heard(run)
    assert any("job j-1 continues at the server" in note for note in notes)
    assert "abort" not in server.calls


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"job_deploy_detail": ["server: OK", "a: BYOC not permitted"]}, "server: OK; a: BYOC not permitted"),
        ({"schedule_history": ["1: not enough sites", "2: still not enough sites"]}, "2: still not enough sites"),
        ({}, "FLARE gives no reason"),
    ],
)
def test_a_job_that_never_runs_fails_with_flares_reason(submit, meta, reason):
    server = Server(statuses=["SUBMITTED", "FINISHED:CAN_NOT_SCHEDULE"], **meta)
    server.events = []
    with pytest.raises(RunFailed) as failure:
        heard(submit(server))
    assert str(failure.value) == f"job j-1 FINISHED:CAN_NOT_SCHEDULE: {reason}"


def test_a_stopped_run_fails_with_the_event_logs_reason_received_live_or_not(submit):
    server = Server(told=[2])
    server.events = [{"event": "start"}, {"event": "stopped", "reason": "1 of 2 sites left"}]
    with pytest.raises(RunFailed, match="1 of 2 sites left"):
        heard(submit(server))


def test_a_refused_submission_names_the_refusal(submit, monkeypatch):
    monkeypatch.setattr(Server, "submit_job", lambda self, folder: (_ for _ in ()).throw(AuthorizationError("not you")))
    with pytest.raises(RunFailed, match="the server did not accept the job: not you"):
        heard(submit(Server()))


@pytest.mark.parametrize(
    ("question", "error", "reason"),
    [
        ("get_connected_client_list", NoReply("none"), "the server does not list its sites: none"),
        ("do_app_command", AuthenticationError("expired"), "the run cannot be followed: expired"),
        ("get_job_meta", AuthenticationError("expired"), "no status of job j-1: expired"),
    ],
)
def test_any_refusal_by_the_server_ends_the_run(submit, monkeypatch, question, error, reason):
    monkeypatch.setattr(Server, question, lambda *given: (_ for _ in ()).throw(error))
    with pytest.raises(RunFailed, match=f"^{reason}$"):
        heard(submit(Server()))


def test_a_resumed_run_fails_with_the_servers_message_if_the_lead_may_not_log_in(submit, monkeypatch):
    heard(submit(Server(), run="0" * 16))
    expired = AuthenticationError("certificate expired")
    monkeypatch.setattr(Server, "get_job_meta", lambda *given: (_ for _ in ()).throw(expired))
    with pytest.raises(RunFailed, match="no status of job j-1: certificate expired"):
        heard(submit(Server(), run="0" * 16, resume=True))


def test_a_job_that_the_server_does_not_run_any_more_is_given_up(submit, monkeypatch):
    monkeypatch.setattr(followed_job, "GIVE_UP_LOST", 0.0)
    server = Server(statuses=["RUNNING"], told=[1, *[JobNotRunning()] * 9])
    with pytest.raises(RunFailed, match="the server does not run job j-1 although it is marked as running"):
        heard(run := submit(server))
    assert json.loads((run.server_folder / "metrics.jsonl").read_text()) == EVENTS[0]
    assert "abort" not in server.calls


def test_a_job_that_is_over_except_for_a_lost_site_is_aborted_and_its_result_downloaded(submit, monkeypatch):
    monkeypatch.setattr(followed_job, "ABORT_LOST", 0.0)
    server = Server(statuses=["RUNNING"], told=[3, 0, JobNotRunning()])
    assert heard(submit(server)) == EVENTS  # although FLARE calls it aborted
    assert server.calls == ["connect", "submit", "abort", "download", "close"]


def test_a_resumed_run_follows_a_job_that_still_runs_and_replaces_one_that_does_not(submit):
    again = {"run": "0" * 16, "resume": True}
    heard(submit(Server(), run="0" * 16))
    server, notes = Server(statuses=["RUNNING", "RUNNING", "FINISHED:COMPLETED"], told=[0, 1]), []
    assert heard(submit(server, notes, **again)) == EVENTS
    assert server.calls == ["connect", "download", "close"]
    assert "job j-1 is not over: following it again" in notes
    for gone in ({"statuses": ["FINISHED:ABORTED", "RUNNING", "FINISHED:COMPLETED"]}, {"told": [JobNotRunning()]}):
        server = Server(**({"statuses": ["RUNNING", "RUNNING", "FINISHED:COMPLETED"]} | gone))
        assert heard(submit(server, **again)) == EVENTS
        assert server.calls == ["connect", "submit", "download", "close"]


def test_two_commands_cannot_use_one_run(submit):
    run = submit(Server())
    with pytest.raises(ValueError, match="another command uses this folder; wait for its end, or end it"):
        submit(Server(), run="0" * 16, resume=True)
    run.close()
    submit(Server(), run="0" * 16, resume=True).close()


def test_an_answer_without_events_aborts_the_run(submit):
    server = Server(statuses=["RUNNING"], told=[{"events": "many", "next": 3}])
    with pytest.raises(RunFailed, match=r"fedrlvr\.events is not events from line 0"):
        heard(submit(server))
    assert "abort" in server.calls


def test_closing_early_aborts_the_job_waits_for_its_end_and_downloads_the_result(submit):
    def interrupt(event):
        raise KeyboardInterrupt

    server = Server(statuses=["RUNNING"])
    with pytest.raises(KeyboardInterrupt):
        heard(run := submit(server), interrupt)
    assert server.calls == ["connect", "submit", "abort", "download", "close"]
    assert len((run.server_folder / "metrics.jsonl").read_text().splitlines()) == len(EVENTS)


def test_flares_output_does_not_reach_the_console(tmp_path, capsys):
    session = FlareSession(lambda: None, tmp_path / "flare.log")
    session.call("", lambda session: print("Connecting to FLARE ..."))
    session.close()
    assert capsys.readouterr().out == ""
    assert "Connecting" in (tmp_path / "flare.log").read_text()
