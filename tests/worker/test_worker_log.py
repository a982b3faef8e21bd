"""The worker's log: what is read of it, and that it does not grow for ever, whoever prints."""

import os
import sys

import pytest

from fedrlvr.processes import end, start, wait_until
from fedrlvr.worker import worker_log
from fedrlvr.worker.worker_log import TAIL, WorkerLog


@pytest.fixture
def log(tmp_path, monkeypatch) -> WorkerLog:
    monkeypatch.setattr(worker_log, "LIMIT", 1000)
    return WorkerLog(tmp_path / "worker.log")


def test_there_is_nothing_to_read_before_anybody_printed(log):
    log.begin()
    log.bound()
    assert log.last_lines(3) == []
    assert not log.path.exists()


def test_the_last_lines_are_the_newest_workers_own(log):
    """One that dies without a word is not given the words of the one before it, which may have seen problems."""
    log.path.write_text("a patient of 1951\n")
    assert log.last_lines(1) == ["a patient of 1951"]
    log.begin()
    assert log.last_lines(1) == []
    with open(log.path, "a") as file:
        file.write("one\ntwo\n\nthree\n\n")
    assert log.last_lines(2) == ["", "three"]
    assert log.last_lines(9) == ["one", "two", "", "three"]


def test_only_the_end_of_a_long_file_is_read(log, monkeypatch):
    with open(log.path, "wb") as file:
        file.truncate(10 * 2**30)  # it has no blocks on the disk
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"x" * (TAIL - 7) + b"\nlast\xff\n")
    assert log.last_lines(5)[-1] == "last\N{REPLACEMENT CHARACTER}"
    assert sum(map(len, log.last_lines(5))) <= TAIL


@pytest.mark.parametrize("size", [999, 1000])
def test_a_short_file_is_left_alone(log, size):
    log.path.write_text("x" * size)
    log.bound()
    assert log.path.stat().st_size == size
    assert len(list(log.path.parent.iterdir())) == 1


def test_of_a_long_one_a_copy_is_kept_and_no_second(log):
    old = log.path.with_name("worker.log.1")
    for text in ("a" * 1001, "b" * 2000):
        log.path.write_text(text)
        log.begin()
        log.bound()
        assert (log.path.read_text(), old.read_text()) == ("", text)
    assert len(list(log.path.parent.iterdir())) == 2
    log.path.write_text("new\n")
    assert log.last_lines(1) == ["new"]


def test_one_that_cannot_be_copied_is_emptied_all_the_same(log):
    log.path.with_name("worker.log.1").mkdir()
    log.path.write_text("a" * 1001)
    log.bound()
    assert log.path.read_text() == ""


def test_a_process_that_prints_without_end_goes_on_in_a_bounded_file(log):
    chatty = "import itertools\nfor i in itertools.count(): print(i, flush=True)"
    process = start([sys.executable, "-c", chatty], log.path)
    try:
        numbers = []
        for _ in range(5):
            assert wait_until(lambda: log.path.exists() and log.path.stat().st_size > 1000, 20.0, pause=0.001)
            log.bound()
            assert wait_until(lambda: len(log.last_lines(2)) == 2, 20.0, pause=0.001)
            numbers.append(int(log.last_lines(2)[0]))
        assert numbers == sorted(set(numbers))
        head = log.path.read_bytes()[:20]
        assert b"\0" not in head  # it appends: no hole is left where the file was cut
    finally:
        end(process)
