"""The chained log itself: what it notices, what it survives, and what one more line costs."""

import json
import multiprocessing
import os
import resource
import signal
import stat
import subprocess
from itertools import count

import pytest
from tests.forks import in_a_child

from fedrlvr.privacy import append_log
from fedrlvr.privacy.append_log import AppendLog, BrokenLog


@pytest.fixture
def log(tmp_path):
    return AppendLog(tmp_path / "local" / "log.jsonl")


def filled(log: AppendLog, *texts: str) -> AppendLog:
    for text in texts:
        with log.locked():
            log.append({"text": text})
    return log


def texts(log: AppendLog) -> list[str]:
    return [line["text"] for line in log.lines()]


def test_every_line_names_the_one_before_and_the_head_the_last(log):
    filled(log, "a", "b")
    one, two = log.path.read_bytes().splitlines()
    hashes = [subprocess.run(["sha256sum"], input=raw, capture_output=True).stdout[:64].decode() for raw in (one, two)]
    first, second = json.loads(one), json.loads(two)
    salts = {line.pop("salt") for line in (first, second)}
    assert first == {"n": 0, "text": "a", "before": ""}
    assert second == {"n": 1, "text": "b", "before": hashes[0]}
    assert {len(salt) for salt in salts} == {32}  # two of 128 bits
    assert len(salts) == 2
    assert json.loads(log.head.read_bytes()) == {"lines": 2, "last": hashes[1]}
    assert log.last_hash() == hashes[1]
    assert log.last_line() == json.loads(two)
    assert {stat.S_IMODE(path.stat().st_mode) for path in log.path.parent.iterdir()} == {0o600}


def test_reading_writes_nothing(log):
    assert (texts(log), log.last_line(), log.last_hash()) == ([], {}, "")
    assert not log.path.parent.exists()
    filled(log, "a")
    files = set(log.path.parent.iterdir())
    assert texts(log) == ["a"]
    assert set(log.path.parent.iterdir()) == files


def test_a_file_that_is_somebody_elses_is_not_cut_off(log):
    log.path.parent.mkdir()
    log.path.write_text("notes of somebody, without a line's end")
    with pytest.raises(BrokenLog, match="it is not a log"), log.locked():
        log.append({"text": "a"})
    assert log.path.read_text() == "notes of somebody, without a line's end"


def edited(lines: list[bytes], number: int) -> list[bytes]:
    return [line.replace(b'"text": "', b'"text": "not ') if n == number else line for n, line in enumerate(lines)]


TRICKS = {  # what becomes of the lines, and whether the next append notices, too
    "first edited": (lambda lines: edited(lines, 0), False),
    "last edited": (lambda lines: edited(lines, 3), True),
    "swapped": (lambda lines: [lines[1], lines[0], *lines[2:]], False),
    "one missing in the middle": (lambda lines: [*lines[:2], *lines[3:]], False),
    "last missing": (lambda lines: lines[:-1], True),
    "all but the first missing": (lambda lines: lines[:1], True),
    "cut in the last line": (lambda lines: [*lines[:-1], lines[-1][:20]], True),
    "empty": (lambda lines: [], True),
    "not JSON": (lambda lines: [b"hello\n", *lines[1:]], False),
    "JSON nested too deeply": (lambda lines: [b"[" * 100_000 + b"\n", *lines[1:]], False),
    "no object": (lambda lines: [*lines[:-1], b"[]\n"], True),
    "doubled": (lambda lines: [*lines, lines[-1]], False),
    "two too many": (lambda lines: [*lines, b"{}\n", b"{}\n"], True),
    "one without a chain behind it": (lambda lines: [*lines, b'{"text": "x"}\n'], True),
    "chain taken off": (lambda lines: [b'{"text": "x"}\n' for _ in lines], True),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_what_was_not_written_here_is_noticed(log, trick):
    spoil, at_once = TRICKS[trick]
    filled(log, "a", "b", "c", "d")
    log.path.write_bytes(b"".join(spoil(log.path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(BrokenLog, match="until then nothing leaves"):
        texts(log)
    if at_once:
        with pytest.raises(BrokenLog, match=r"its last line is not the one that log\.jsonl\.head knows"):
            filled(log, "e")
    else:
        filled(log, "e")
        with pytest.raises(BrokenLog):
            texts(log)


def test_a_file_or_a_head_that_is_gone_or_older_is_noticed(log):
    filled(log, "a", "b")
    older = {path: path.read_bytes() for path in (log.path, log.head)}
    filled(log, "c", "d")
    newer = {path: path.read_bytes() for path in (log.path, log.head)}
    for path in (log.path, log.head):
        for spoil in (path.unlink, lambda path=path: path.write_bytes(older[path])):
            spoil()
            with pytest.raises(BrokenLog):
                texts(log)
            with pytest.raises(BrokenLog):
                filled(log, "e")
            path.write_bytes(newer[path])
    for damaged in ("{}", '{"lines": Infinity, "last": ""}', "[" * 100_000):
        log.head.write_text(damaged)
        for use in (lambda: texts(log), lambda: filled(log, "e"), log.last_hash):
            with pytest.raises(BrokenLog, match="head is damaged"):
                use()


def test_lines_without_a_chain_are_continued_with_one(log):
    log.path.parent.mkdir()
    log.path.write_bytes(b'{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n{"te')
    assert texts(log) == ["a", "b", "c"]
    filled(log, "d", "e")
    assert texts(log) == ["a", "b", "c", "d", "e"]
    assert [line.get("n") for line in log.lines()] == [None, None, None, 3, 4]
    lines = log.path.read_bytes().splitlines(keepends=True)
    for spoil in (lines[1:], [*lines[:2], b'{"text": "x"}\n', *lines[3:]], lines[:3]):
        log.path.write_bytes(b"".join(spoil))
        with pytest.raises(BrokenLog):
            texts(log)


def test_something_else_is_not_continued(log):
    log.path.parent.mkdir()
    for other in (b"hello\n", b'{"text": "a"}\nhello\n{"text": "b"}\n'):
        log.path.write_bytes(other)
        with pytest.raises(BrokenLog):
            filled(log, "x")
        assert log.path.read_bytes() == other


def test_lines_of_any_length(log):
    long = ["x" * 8192, "y" * 100_000, "z", "w" * 8000, "v" * 400, "u"]
    assert texts(filled(log, *long)) == long


def test_two_writers_lose_no_line_and_a_reader_beside_them_sees_a_sound_log(log):
    writers = {name: multiprocessing.Process(target=filled, args=(log, *([name] * 50))) for name in "ab"}
    for writer in writers.values():
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers.values()):
        before, seen = seen, texts(log)
        assert seen[: len(before)] == before
    assert [writer.exitcode for writer in writers.values()] == [0, 0]
    assert sorted(texts(log)) == ["a"] * 50 + ["b"] * 50


def killed_at(step: int, log: AppendLog) -> bool:
    """Append in a process that is killed right before the system call of this number; False where it made fewer."""
    calls = count(1)

    def counted(original):
        def call(*arguments):
            if next(calls) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        return call

    def act():
        os.fsync, os.replace = counted(os.fsync), counted(os.replace)
        filled(log, "new")

    status = in_a_child(act)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def test_a_kill_at_any_step_of_an_append_leaves_a_log_that_goes_on(tmp_path):
    for step in range(1, 6):
        log = AppendLog(tmp_path / f"{step}.jsonl")
        filled(log, "a", "b")
        # The line's sync, the head's, its rename, and the folder's sync. The line itself is written before all of them.
        assert killed_at(step, log) == (step <= 4)
        assert json.loads(log.head.read_bytes())["lines"] == (2 if step <= 3 else 3)
        assert texts(log) == ["a", "b", "new"]
        assert texts(filled(log, "next")) == ["a", "b", "new", "next"]


def test_a_torn_line_is_no_line_and_the_next_one_takes_its_place(log):
    filled(log, "a", "b")
    with open(log.path, "ab") as file:
        file.write(b'{"n": 2, "te')
    assert texts(log) == ["a", "b"]
    assert texts(filled(log, "c")) == ["a", "b", "c"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_line_whose_head_cannot_be_written_is_cut_off_again(log, monkeypatch, no_space, failing):
    filled(log, "a")
    for _ in range(3):
        with monkeypatch.context() as patched:
            patched.setattr(os, failing, no_space)
            with pytest.raises(BrokenLog, match="No space left on device"):
                filled(log, "lost")
        assert texts(log) == ["a"]
    assert texts(filled(log, "b")) == ["a", "b"]


def test_a_file_that_may_not_grow_any_more(log):
    """The line is torn at every possible byte."""
    filled(log, "a")
    size = log.path.stat().st_size
    line = len(json.dumps({"n": 1, "text": "new", "salt": "0" * 32, "before": "0" * 64})) + 1
    for room in range(0, line, 7):

        def act(room=room):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, size + room))
            with pytest.raises(BrokenLog, match="File too large"):
                filled(log, "new")

        assert in_a_child(act) == 0
        assert log.path.stat().st_size == size
    assert texts(filled(log, "b")) == ["a", "b"]


FILL = """
import os, sys
from pathlib import Path
from fedrlvr.privacy import append_log
from fedrlvr.privacy.append_log import AppendLog, BrokenLog
disk = Path(sys.argv[1])
log = AppendLog(disk / "log.jsonl")
def append(text):
    with log.locked():
        log.append({"text": text})
append("first")
with open(disk / "filler", "wb", buffering=0) as filler:
    try:
        while filler.write(b"x" * 4096): pass
    except OSError: pass
for _ in range(5):  # the line fits into the file's last page, the new head needs a page of its own
    try:
        append("lost")
    except BrokenLog as error:
        assert "No space left" in str(error), error
        print("refused")
assert [line["text"] for line in log.lines()] == ["first"]
os.remove(disk / "filler")
append("second")
print(*(line["text"] for line in log.lines()))
"""


def test_a_disk_that_is_full(on_a_small_disk):
    assert on_a_small_disk(FILL) == (["refused"] * 5 + ["first", "second"], "")


def test_an_append_reads_as_much_of_a_long_log_as_of_a_short_one(log, monkeypatch, bytes_read):
    cost = {}
    with monkeypatch.context() as quick:
        quick.setattr(os, "fsync", lambda descriptor: None)
        for length in range(3001):
            if length in (100, 3000):
                cost[length] = bytes_read(lambda: filled(log, "x" * 300))
            filled(log, "x" * 300)
    assert log.path.stat().st_size > 1_000_000
    assert cost[3000] < 20_000
    assert cost[3000] - cost[100] < 100  # longer numbers, no more


def test_a_line_is_known_by_its_hash_however_far_back(log, monkeypatch):
    monkeypatch.setattr(append_log, "BLOCK", 1000)  # so that hashes lie across two blocks
    hashes = []
    for length in range(0, 400, 7):
        filled(log, "x" * length)
        hashes.append(log.last_hash())
    assert all(log.knows(line_hash) for line_hash in hashes)
    assert log.knows("")
    assert not log.knows("0" * 64)
    filled(log, f'"before": "{"1" * 64}"')
    assert not log.knows("1" * 64)  # a text in a line is no hash


def test_a_new_line_is_found_without_reading_the_old_ones(log, monkeypatch, bytes_read):
    with monkeypatch.context() as quick:
        quick.setattr(os, "fsync", lambda descriptor: None)
        filled(log, *["x" * 3000] * 1000)
        known = log.last_hash()
        filled(log, "y")
    assert log.knows(known)
    assert bytes_read(lambda: log.knows(known)) < 2 * append_log.BLOCK < log.path.stat().st_size


def test_reading_goes_on_where_it_ended(log):
    filled(log, "a", "b")
    (place, _), read = list(log.since(append_log.BEGINNING))[-1], []
    assert list(log.since(place)) == []
    for text in ("c", "d"):
        filled(log, text)
        ((place, line),) = log.since(place)
        read.append(line["text"])
    assert read == ["c", "d"]
    assert log.holds(place)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join([*lines[:3], lines[3].replace(b'"d"', b'"e"')]))
    assert not log.holds(place)
    log.path.unlink()
    assert not log.holds(place)
    assert log.holds(append_log.BEGINNING)
