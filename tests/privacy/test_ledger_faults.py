"""A charge on a machine in trouble: whatever fails, and wherever it is killed, what was reported is in the ledger, and
the ledger goes on when the trouble is over."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress
from io import FileIO
from itertools import count

import pytest
from tests.forks import in_a_child

from fedrlvr.privacy import append_log
from fedrlvr.privacy.accountant import SiteNoise
from fedrlvr.privacy.append_log import BrokenLog
from fedrlvr.privacy.ledger import Ledger, Source

SOURCE, ONE = Source("m"), SiteNoise(1.0)


def charge(path) -> None:
    Ledger(path, "ward-7").charge(SOURCE, "job", ONE, 1e-5, None)


def counted(path) -> int:
    return sum(charge.releases for charge in Ledger(path, "ward-7").charges(SOURCE, SiteNoise))


class Trouble:
    """Counts the steps of a charge that reach the disk, and does something about the `at`-th.

    `kind`: "killed before" or "killed after" the step; "killed within" a half-written line; "fails once", with nothing
    done; "fails late", when all is done; from then on "is full", so only cutting off works; "is dead", so nothing does.
    """

    def __init__(self, kind: str, at: int):
        self.kind, self.at, self.number = kind, at, 0
        self.open, self.fsync, self.replace, self.flock = open, os.fsync, os.replace, fcntl.flock
        append_log.open = self.opened
        os.fsync, os.replace, fcntl.flock = (self.step(f) for f in (os.fsync, os.replace, fcntl.flock))

    def step(self, act, frees_space: bool = False):
        def call(*arguments):
            self.number += 1
            here = self.number == self.at
            lasting = self.number >= self.at and (
                self.kind == "is dead" or (self.kind == "is full" and not frees_space)
            )
            if here and self.kind == "killed before":
                os.kill(os.getpid(), signal.SIGKILL)
            if lasting or (here and self.kind == "fails once"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if here and self.kind == "killed within" and arguments and isinstance(arguments[0], bytes):
                arguments = (arguments[0][: len(arguments[0]) // 2],)
            done = act(*arguments)
            if here and self.kind in ("killed after", "killed within"):
                os.kill(os.getpid(), signal.SIGKILL)
            if here and self.kind == "fails late":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return done

        return call

    def opened(self, path, mode, buffering=-1, opener=None):
        if buffering or "r" in mode:
            return self.open(path, mode, opener=opener)
        file = self.step(lambda: Steps(path, mode, opener=opener))()
        file.trouble = self
        return file


class Steps(FileIO):
    """A file whose changes are steps."""

    def write(self, data):
        return self.trouble.step(super().write)(data)

    def truncate(self, size=None):
        return self.trouble.step(super().truncate, frees_space=True)(size)


KINDS = ["killed before", "killed after", "killed within", "fails once", "fails late", "is full", "is dead"]


@pytest.mark.parametrize("first", [True, False], ids=["the first charge", "a later charge"])
@pytest.mark.parametrize("kind", KINDS)
def test_trouble_at_any_step_of_a_charge(tmp_path, kind, first):
    steps = 0
    for at in count(1):
        path = tmp_path / str(at) / "ledger.jsonl"
        before = 0 if first else 2
        for _ in range(before):
            charge(path)

        def act(path=path, at=at):
            trouble = Trouble(kind, at)
            charged = 0
            for _ in range(2):
                with suppress(BrokenLog):
                    charge(path)
                    charged += 1
                if trouble.number < at:
                    os._exit(100)  # never got so far
            os._exit(10 + charged)

        status = in_a_child(act)
        if os.waitstatus_to_exitcode(status) == 100:
            break
        steps = at
        died = os.WIFSIGNALED(status)
        assert died == kind.startswith("killed"), (at, status)
        reported = 0 if died else os.waitstatus_to_exitcode(status) - 10
        assert 0 <= reported <= 2, "the child raised"
        left = counted(path)
        assert before + reported <= left <= before + 2, (kind, at)
        charge(path)
        charge(path)
        # A line whose head was not written any more is only counted when the next charge has mended the head.
        assert left + 2 <= counted(path) <= before + 4, (kind, at)
    assert steps >= 8  # lock, line, sync, head, sync, rename, sync of the folder, and what a second charge does


def test_a_network_disk_without_locks_refuses_every_charge(tmp_path, monkeypatch):
    path = tmp_path / "ledger.jsonl"
    charge(path)

    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", no_locks)
        with pytest.raises(BrokenLog, match="No locks available"):
            charge(path)
    assert counted(path) == 1


READ_ONLY = """
import subprocess, sys
from pathlib import Path
from fedrlvr.privacy.accountant import SiteNoise
from fedrlvr.privacy.append_log import BrokenLog
from fedrlvr.privacy.ledger import Ledger, Source
path = Path(sys.argv[1]) / "ledger.jsonl"
for remount in (None, "ro", "rw"):
    if remount:
        subprocess.run(["mount", "-o", f"remount,{remount}", sys.argv[1]], check=True)
    try:
        Ledger(path, "ward-7").charge(Source("m"), "job", SiteNoise(1.0), 1e-5, None)
        print("charged")
    except BrokenLog as reason:
        print("refused" if "Read-only file system" in str(reason) else reason)
print(Ledger(path, "ward-7").charges(Source("m"), SiteNoise)[0].releases)
"""


def test_a_disk_that_becomes_read_only_refuses_and_goes_on_later(on_a_small_disk):
    assert on_a_small_disk(READ_ONLY) == (["charged", "refused", "charged", "2"], "")


def test_two_links_to_one_ledger_have_one_head(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "ledger.jsonl").symlink_to(tmp_path / "a" / "ledger.jsonl")
    paths = [tmp_path / "a" / "ledger.jsonl", tmp_path / "b" / "ledger.jsonl", tmp_path / "ledger.jsonl"]
    for path in paths * 3:
        charge(path)
    assert [counted(path) for path in paths] == [9, 9, 9]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b", "ledger.jsonl"]


CHARGE = """
import sys
from pathlib import Path
from fedrlvr.privacy.accountant import SiteNoise
from fedrlvr.privacy.ledger import Ledger, Source
print("waits", flush=True)
Ledger(Path(sys.argv[1]), "ward-7").charge(Source("m"), "job", SiteNoise(1.0), 1e-5, None)
"""


def test_a_writer_waits_for_another_though_files_beside_the_ledger_are_deleted(tmp_path):
    """The lock is the ledger itself: a lock file could be deleted and made anew while somebody holds it."""
    path = tmp_path / "ledger.jsonl"
    charge(path)
    ledger = Ledger(path, "ward-7")
    with ledger.locked():
        for file in tmp_path.glob("*lock*"):
            file.unlink()
        other = subprocess.Popen([sys.executable, "-c", CHARGE, str(path)], stdout=subprocess.PIPE)
        assert other.stdout.readline() == b"waits\n"
        line = {"model": "m", "job": "j", "mechanism": "SiteNoise", "noise_multiplier": 1.0, "releases": 1}
        for _ in range(20):
            ledger.append(line | {"time": "2026-05-01T12:00:00+00:00"})
        assert other.poll() is None
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert counted(path) == 22
