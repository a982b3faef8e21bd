"""A session that is interrupted while it is being opened."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from fedrlvr.flare.deploy.project import free_port, provision

PROJECT = Path(__file__).parents[3] / "poc" / "project.yml"


def test_an_interrupted_connection_leaves_no_thread_that_keeps_the_program_alive(tmp_path):
    """No server listens, so FLARE's connector keeps trying, and would do so for ever."""
    kits = provision(PROJECT, tmp_path, "localhost", free_port(None), ["north"])
    script = textwrap.dedent(f"""
        import _thread, signal, threading
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without one
        from fedrlvr.flare.lead import session
        session.CONNECT_WITHIN = 1.0  # seconds for which FLARE tries by itself; an interruption waits for their end
        connect = session.open_kit(Path({str(kits / "lead@consortium.org")!r}))
        def interrupt():
            while not any("conn_mgr" in thread.name for thread in threading.enumerate()):
                pass
            _thread.interrupt_main()
        threading.Thread(target=interrupt, daemon=True).start()
        connect()
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode != 0
