"""A process that starts a server and sees to it that nothing of it is left, once the worker or the server is gone.

vLLM's own processes outlive their parent when that is killed. Started as `python -m fedrlvr.learning.vllm_guard
LIFELINE COMMAND...` at the head of a process group, which the server joins.
"""

import os
import signal
import subprocess
import sys

from fedrlvr.processes import die_with


def main(lifeline: int, command: list[str]) -> None:
    """Run `command` until it ends, or until nobody holds the other end of the pipe `lifeline`; then kill the group."""
    die_with(lifeline, last=_kill_group)
    code = subprocess.call(command)
    print(f"the server ended with exit code {code}", flush=True)
    _kill_group()


def _kill_group() -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
