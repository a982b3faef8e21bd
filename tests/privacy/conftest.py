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
