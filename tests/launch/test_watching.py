"""Following a run that somebody else has started: one that goes on, one that ended, one that was killed."""

import json
import threading
import time

import pytest
from tests.runs import run_here, spec_of

from fedrlvr.cli import main
from fedrlvr.launch import watching
from fedrlvr.launch.local import LocalRun
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.launch.watching import event_log_of, watch_here
from fedrlvr.report.summary import summarise
from fedrlvr.run import RunFailed, claim, server_folder_of

SITES = {"site-1": ("A",), "site-2": ("B",)}
ONE_ROUND = {"federation__rounds": 1, "federation__segments_per_round": 2, "federation__min_sites": 2}


@pytest.fixture
def prepared(small_job, site_files, tmp_path) -> PreparedRun:
    """Not begun yet."""
    _, sites = site_files(SITES)
    spec = spec_of(small_job(**ONE_ROUND), sites)
    prepared = PreparedRun(folder=tmp_path, spec=spec, base_model="m", sites=sites, environment="local")
    prepared.save()
    return prepared


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(watching, "POLL", 0.01)


def write(prepared: PreparedRun, *events: dict) -> None:
    log = event_log_of(prepared)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def test_a_run_that_goes_on_is_followed_to_its_end_and_not_disturbed(prepared, capsys):
    """A real one. Who watches hears all of it, though it had begun before."""
    seen, begun = [], threading.Event()

    def watch() -> None:
        begun.wait()
        watch_here(prepared, lambda event: seen.append(event) if event else None)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run = LocalRun(prepared.folder, prepared.spec, prepared.sites)
    heard = []

    def hear(event: dict | None) -> None:
        heard.append(event)
        if event and event["event"] == "exchange":
            begun.set()
            time.sleep(0.2)  # the watcher finds the run at work

    try:
        run.run(hear)
    finally:
        run.close()
    watcher.join()
    assert seen == [event for event in heard if event]
    assert seen[-1]["event"] == "end"
    capsys.readouterr()
    assert main(["watch", str(prepared.folder)]) == 0
    said = capsys.readouterr().out
    assert f"{prepared.folder} is finished" in said
    assert "measured on" in said


def test_one_that_was_killed_is_told_of_with_what_it_did(prepared, capsys):
    plan = {"method": "pubswap", "rounds": 1, "segments": 2, "steps": 4, "sites": ["site-1"]}
    write(prepared, {"event": "start", "time": 0.0} | plan)
    assert main(["watch", str(prepared.folder)]) == 1
    resume = f"`fedrlvr run --resume-from {prepared.folder}` goes on with it"
    assert capsys.readouterr().err == f"error: {prepared.folder} is not finished, and nobody runs it now; {resume}\n"


def test_one_that_stopped_is_told_of_with_the_reason(prepared, capsys):
    write(prepared, {"event": "stopped", "time": 0.0, "reason": "no\x1b[2J site"})
    assert main(["watch", str(prepared.folder)]) == 1
    assert "is not finished, and it stopped: no [2J site; `fedrlvr run --resume-from " in capsys.readouterr().err


def test_a_folder_with_spaces_is_quoted_in_commands(prepared, capsys):
    """They are made to be copied."""
    home = prepared.folder / "my runs"
    home.mkdir()
    other = prepared.model_copy(update={"folder": home})
    other.save()
    write(other, {"event": "start", "time": 0.0})
    assert main(["watch", str(home)]) == 1
    assert f"`fedrlvr run --resume-from '{home}'`" in capsys.readouterr().err
    event_log_of(other).write_text("{\n")
    assert main(["watch", str(home)]) == 1
    assert f"`fedrlvr report '{home}'` shows the rest" in capsys.readouterr().err


@pytest.fixture
def finished(prepared) -> PreparedRun:
    """A real one, with what it leaves: 100 s, of which most were spent on starting and stopping."""
    events, _ = run_here(prepared.folder, prepared.spec, prepared.sites)
    (prepared.folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (prepared.folder / "summary.json").write_text(json.dumps(summarise(events, 100.0)))
    return prepared


def time_line(prepared: PreparedRun, capsys) -> str:
    assert main(["watch", str(prepared.folder)]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def test_a_finished_run_took_what_its_summary_says(finished, capsys):
    line = time_line(finished, capsys)
    assert line.startswith("time: 100 s = ")
    assert line.endswith(" s starting and stopping")


@pytest.mark.parametrize("summary", [None, "{", "[]", "{}", "an earlier end", '{"seconds": {"wall": "x"}}', "\udcff"])
def test_where_the_summary_does_not_tell_of_this_end_nobody_knows_the_time_around(finished, capsys, summary):
    path = finished.folder / "summary.json"
    if summary == "an earlier end":
        told = json.loads(path.read_text())
        told["seconds"]["waiting"] -= 1.0
        summary = json.dumps(told)
    path.unlink() if summary is None else path.write_text(summary, errors="surrogateescape")
    line = time_line(finished, capsys)
    assert "starting and stopping" not in line
    assert "time: 100 s" not in line
    assert line.endswith(" waiting")


def test_a_line_that_is_not_complete_is_waited_for(prepared):
    """As long as somebody runs it."""
    write(prepared, {"event": "first", "time": 0.0})
    log, seen = event_log_of(prepared), []
    with log.open("a") as file:
        file.write('{"event": "end", ')
    with claim(prepared.folder):
        watcher = threading.Thread(target=watch_here, args=(prepared, lambda e: seen.append(e["event"]) if e else None))
        watcher.start()
        time.sleep(0.2)
        assert seen == ["first"]
        assert watcher.is_alive()
        with log.open("a") as file:
            file.write('"time": 1.0}\n')
        watcher.join(10)
    assert seen == ["first", "end"]


@pytest.mark.parametrize("environment", ["poc", "prod"])
def test_of_a_run_that_has_ended_no_server_is_asked(prepared, capsys, environment):
    """There may be none any more, and the folder has all of it."""
    run_here(prepared.folder, prepared.spec, prepared.sites)
    there = prepared.model_copy(update={"environment": environment, "place": "gone"})
    there.save()
    (prepared.folder / "job_id").write_text("j-1")
    log = server_folder_of(prepared.folder, "local", prepared.spec.job.name) / "metrics.jsonl"
    log.rename(prepared.folder / "metrics.jsonl")
    assert main(["watch", str(prepared.folder)]) == 0
    assert f"{prepared.folder} is finished" in capsys.readouterr().out


def test_a_finished_run_of_events_of_another_form_is_one_error(prepared, capsys):
    write(prepared, {"event": "start", "time": 0.0}, {"event": "end", "time": 1.0})
    assert main(["watch", str(prepared.folder)]) == 1
    captured = capsys.readouterr()
    assert "its events are not those of a run" in captured.err
    assert "progress is shown no more" in captured.out


def test_a_log_of_something_else_is_one_error(prepared, capsys):
    log = event_log_of(prepared)
    log.parent.mkdir(parents=True)
    log.write_text("[1, 2]\n")
    with pytest.raises(RunFailed):
        watch_here(prepared, print)
    assert main(["watch", str(prepared.folder)]) == 1
    said = capsys.readouterr().err
    assert f"{log}, line 1: not an event; `fedrlvr report {prepared.folder}` shows the rest" in said


@pytest.mark.parametrize("environment", ["poc", "prod"])
def test_a_run_whose_job_was_never_submitted_is_told(prepared, capsys, environment):
    prepared.model_copy(update={"environment": environment, "place": "kit"}).save()
    assert main(["watch", str(prepared.folder)]) == 2
    assert "no job was submitted for this run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nowhere"],
            "nowhere: no such folder; expected that of a run, such as workspace/demo-pubswap-seed0, or a job's",
        ),
        (["."], ".: holds no run.json; expected that of a run, such as workspace/demo-pubswap-seed0"),
        (["j-1", "--kit", "nowhere"], "nowhere: not an administrator's startup kit"),
    ],
)
def test_what_is_neither_a_run_nor_a_job(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_finished_run_is_not_resumed_but_for_more_rounds(prepared, capsys):
    events, _ = run_here(prepared.folder, prepared.spec, prepared.sites)
    (prepared.folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    command = ["run", "--resume-from", str(prepared.folder)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "this run is finished, with all its 1 rounds; --set federation.rounds=2 would go on" in said
    assert main([*command, "--set", "federation.rounds=2"]) in (0, 3, 4)
