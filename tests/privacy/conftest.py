"""What tests of files need of a machine that is in trouble."""

import errno
import os
import subprocess
import sys

import pytest


@pytest.fixture
def no_space():
    """A function of the operating system on a full disk."""

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fail


@pytest.fixture
def on_a_small_disk(tmp_path):
    """`on_a_small_disk(program)` -> (words that it printed, its standard error); its argument is a disk of 64 kB."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    mount = f'mount -t tmpfs -o size=64k none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'

    def run(program: str) -> tuple[list[str], str]:
        command = ["unshare", "-rm", "sh", "-c", mount, program]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.split(), done.stderr

    return run


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
