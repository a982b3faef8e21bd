"""Whether a process has ended."""

import psutil


def gone(process: psutil.Process | int) -> bool:
    """One that has ended and was not waited for is gone, too."""
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
