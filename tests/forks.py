"""What a test does in a child process of its own."""

import os
from collections.abc import Callable


def start_in_a_child(act: Callable[[], object]) -> int:
    """Fork, and run it in the child, which ends with code 1 if it raises and never comes back here; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def in_a_child(act: Callable[[], object]) -> int:
    """The same, when the child has ended: its wait status."""
    return os.waitpid(start_in_a_child(act), 0)[1]
