"""How the lead follows FLARE's simulator to its end: here a script in its place, which ends or does not."""

import textwrap

import pytest
from tests.runs import heard, simulation_of

from fedrlvr.flare.lead import simulator
from fedrlvr.processes import start
from fedrlvr.run import RunFailed


@pytest.fixture
def ran(site_files, small_job, tmp_path, monkeypatch):
    """ran(event that the server logs last, what the script does then) -> (the run's events, the end of its log)."""
    monkeypatch.setattr(simulator, "ENDING", 1.0)
    _, sites = site_files({"site-1": ("A",)})
    run = simulation_of(tmp_path / "run", small_job(), sites)

    def follow(last: str, then: str):
        script = tmp_path / "flare.py"
        script.write_text(
            textwrap.dedent(f"""
                import os, signal, sys, time
                from pathlib import Path
                log = Path({str(run.server_folder / "metrics.jsonl")!r})
                log.parent.mkdir(parents=True)
                log.write_text('{{"event": "start"}}\\n' + {last + chr(10)!r})
                {then}
            """)
        )
        instead = lambda command, *given, **options: start([command[0], str(script)], *given, **options)  # noqa: E731
        monkeypatch.setattr(simulator, "start", instead)
        return heard(run), run.log_path.read_text()

    return follow


END, STOPPED = '{"event": "end"}', '{"event": "stopped", "reason": "only 1 of 2 sites are left"}'
STANDS_STILL = "os.kill(os.getpid(), signal.SIGSTOP)"
HANGS = "time.sleep(600)"


@pytest.mark.parametrize("then", [STANDS_STILL, HANGS])
def test_a_run_that_is_done_is_done_although_flare_does_not_end(ran, then):
    events, log = ran(END, then)
    assert [event["event"] for event in events] == ["start", "end"]
    assert log == "ended by force: FLARE still waited for a site 1 s after the run was over\n"


@pytest.mark.parametrize("then", [STANDS_STILL, HANGS, "sys.exit(2)", ""])
def test_a_run_that_was_stopped_says_why_whether_or_not_flare_ends(ran, then):
    with pytest.raises(RunFailed, match=r"^only 1 of 2 sites are left$"):
        ran(STOPPED, then)


def test_a_simulator_that_ends_in_time_is_not_ended_by_force(ran):
    assert ran(END, "time.sleep(0.5)")[1] == ""


def test_a_simulator_that_ends_with_an_error_is_one(ran):
    with pytest.raises(RunFailed, match="FLARE's simulator ended with code 3"):
        ran(END, "sys.exit(3)")
