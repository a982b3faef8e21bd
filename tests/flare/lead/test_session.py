"""A session whose server is out of reach, or that is interrupted while it is being opened."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fedrlvr.flare.deploy.project import free_port, provision
from fedrlvr.flare.lead import session

PROJECT = Path(__file__).parents[3] / "poc" / "project.yml"


def test_an_interrupted_connection_leaves_no_thread_that_keeps_the_program_alive(tmp_path):
    """No server listens, so FLARE's connector keeps trying, and would do so for ever."""
    kits = provision(PROJECT, tmp_path, "localhost", free_port(None), ["north"])
    script = textwrap.dedent(f"""
        import _thread, signal, threading
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without one
        from fedrlvr.flare.lead import session
        session.CONNECT_TIMEOUT = 1.0  # seconds for which FLARE tries by itself; an interruption waits for their end
        connect = session.open_kit(Path({str(kits / "lead@consortium.org")!r}))
        opened = session.FlareSession(connect, Path({str(tmp_path / "flare.log")!r}))
        def interrupt():
            while not any("conn_mgr" in thread.name for thread in threading.enumerate()):
                pass
            _thread.interrupt_main()
        threading.Thread(target=interrupt, daemon=True).start()
        opened.call('', lambda flare: None)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode != 0


class Opened:
    """A session of FLARE, which is interrupted while it closes."""

    def __init__(self):
        self.closed = False

    def close(self):
        signal.raise_signal(signal.SIGINT)
        self.closed = True


def test_a_session_is_closed_even_if_an_interruption_comes_as_it_opens_and_another_as_it_closes(tmp_path):
    opened = Opened()

    def connect():
        signal.raise_signal(signal.SIGINT)
        return opened

    held = session.FlareSession(connect, tmp_path / "flare.log")
    with pytest.raises(KeyboardInterrupt):
        held.call("", lambda flare: None)
    assert not opened.closed
    with pytest.raises(KeyboardInterrupt):
        held.close()
    assert opened.closed


def test_a_server_out_of_reach_is_given_up_sooner_when_a_person_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "HURRIED_PATIENCE", 0.0)
    said = []

    def connect():
        raise ConnectionError("refused")

    waiting = session.FlareSession(connect, tmp_path / "flare.log", said.append, first_patience=300.0, pause=0.0)
    waiting.hurry()
    with pytest.raises(session.Unreachable, match="no connection to the server for 0 s: refused"):
        waiting.call("", lambda flare: None)
    waiting.close()
    assert said == ["no connection to the server (refused); trying again"]
