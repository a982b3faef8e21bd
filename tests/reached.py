"""Whether another machine could have connected to processes while a test ran."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psutil

from fedrlvr.processes import reachable_ports

PAUSE = 0.2  # seconds


@contextmanager
def reached(processes: Callable[[], Iterable[psutil.Process]]) -> Iterator[set[str]]:
    """Every port at which one could have connected to one of the processes, or to one under them, during the block.
    The test fails where none of them could be looked at."""
    found, over = set(), threading.Event()

    def look() -> int:
        seen = 0
        while not over.wait(PAUSE):
            for process in processes():
                with suppress(psutil.NoSuchProcess):
                    found.update(reachable_ports(process))
                    seen += 1
        return seen

    with ThreadPoolExecutor(1) as executor:
        looking = executor.submit(look)
        try:
            yield found
        finally:
            over.set()
        assert looking.result() > 0
