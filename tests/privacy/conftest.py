"""What tests of files need of a machine that is in trouble."""

import errno
import os

import pytest


@pytest.fixture
def no_space():
    """A function of the operating system on a full disk."""

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fail


@pytest.fixture
def bytes_read():
    """`bytes_read(act)` -> how many bytes this process read from files meanwhile."""

    def so_far() -> int:
        with open("/proc/self/io") as file:
            return int(file.readline().removeprefix("rchar:"))

    def measured(act) -> int:
        start = so_far()
        act()
        return so_far() - start

    return measured
