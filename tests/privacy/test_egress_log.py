"""The record of what left: on disk first, and without it nothing leaves."""

import hashlib
import json
import os
import resource
import stat
from collections import Counter
from functools import partial

import pytest
from tests.forks import in_a_child, start_in_a_child

from fedrlvr.privacy.append_log import BrokenLog
from fedrlvr.privacy.egress_log import EgressLog, fingerprint
from fedrlvr.protocol.refused import Refused

PLACE = {"site": "ward-7", "job": "j1", "kind": "responses"}


def test_the_outcome_is_on_disk_when_the_block_is_over(tmp_path):
    log = EgressLog(tmp_path / "logs" / "egress.jsonl")
    with log.written(**PLACE) as entry:
        entry |= {"count": 3, "rules": {"length": 1}, **fingerprint(b"abc")}
        assert list(log.entries()) == []
    with pytest.raises(Refused), log.written(**PLACE):
        raise Refused("17 responses, at most 4 are allowed")
    with pytest.raises(KeyError), log.written(**PLACE):
        raise KeyError("Mrs Smith's own words")
    first, second, third = log.entries()
    assert first.items() >= {"decision": "released", "count": 3, "bytes": 3, **PLACE}.items()
    assert first["sha256"] == hashlib.sha256(b"abc").hexdigest()
    assert (second["decision"], second["reason"]) == ("refused", "17 responses, at most 4 are allowed")
    assert (third["decision"], third["reason"]) == ("refused", "KeyError")
    assert "Smith" not in log.path.read_text()
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_answers_of_a_job_are_counted_over_restarts(tmp_path):
    for job, count in (("j1", 3), ("j2", 5), ("j1", 4)):
        with EgressLog(tmp_path / "log").written(**PLACE | {"job": job}) as entry:
            entry |= {"count": count, "rules": {"overlap": count, "identifier": 1, "pii": 9}}
    with EgressLog(tmp_path / "log").written(**PLACE | {"kind": "adapter"}) as entry:
        entry["count"] = 100
    EgressLog(tmp_path / "log").refused("no", **PLACE)
    assert EgressLog(tmp_path / "log").answers("j1") == {"released": 7, "overlap": 7, "identifier": 2, "pii": 18}


@pytest.mark.parametrize(
    "line", ["not json", "\udcff\udc80", "[]", "3", '{"kind": "adapter"}', '{"time": "x", "job": [1]}']
)
def test_a_line_of_something_else_is_named(tmp_path, line):
    """Behind our own lines, and as the first of a log without a chain."""
    log, other = EgressLog(tmp_path / "log"), EgressLog(tmp_path / "other")
    log.refused("no", **PLACE)
    for path in (log.path, other.path):
        with open(path, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(line + "\n")
    with pytest.raises(Refused, match="line 2 is not"):
        list(log.entries())
    with pytest.raises(Refused, match="line 1 is not"):
        list(other.entries())


def three_lines(log: EgressLog) -> list[bytes]:
    for reason in ("first", "second", "third"):
        log.refused(reason, **PLACE)
    return log.path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [lines[0].replace(b"refused", b"release"), *lines[1:]],
        lambda lines: [*lines[:2], lines[2].replace(b"third", b"THIRD")],
        lambda lines: lines[:2],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [],
    ],
)
def test_an_edit_a_cut_and_an_older_copy_are_noticed(tmp_path, spoil):
    log = EgressLog(tmp_path / "log")
    log.path.write_bytes(b"".join(spoil(three_lines(log))))
    with pytest.raises(BrokenLog, match="until then nothing leaves"):
        list(log.entries())
    with pytest.raises(BrokenLog):
        log.answers("j1")


def test_nothing_leaves_while_the_newest_line_is_not_the_one_that_was_written(tmp_path):
    log = EgressLog(tmp_path / "log")
    log.path.write_bytes(b"".join(three_lines(log)[:2]))
    with pytest.raises(BrokenLog, match="until then nothing leaves"), log.written(**PLACE) as entry:
        entry["count"] = 3
    assert len(log.path.read_bytes().splitlines()) == 2


def test_a_log_of_an_earlier_version_goes_on_with_a_chain(tmp_path):
    log = EgressLog(tmp_path / "log")
    old = PLACE | {"decision": "released", "reason": "", "count": 3, "rules": {}}
    log.path.write_text("".join(json.dumps(old | {"ledger": ledger}) + "\n" for ledger in ("one", "two", "")))
    assert (log.answers("j1"), log.last_ledger()) == ({"released": 9}, "two")
    log.refused("new", **PLACE)
    with log.written(**PLACE, ledger="three") as entry:
        entry |= {"count": 4, "rules": {}}
    assert [entry["ledger"] for entry in log.entries()] == ["one", "two", "", "two", "three"]
    assert (log.answers("j1"), log.last_ledger()) == ({"released": 13}, "three")
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(BrokenLog):
        list(log.entries())


def test_the_last_known_ledger_is_handed_on_from_line_to_line(tmp_path):
    log = EgressLog(tmp_path / "log")
    assert log.last_ledger() == ""
    log.refused("no ledger yet", **PLACE)
    assert log.last_ledger() == ""
    for ledger in ("one", "", "two", ""):
        with log.written(**PLACE, ledger=ledger):
            pass
        log.refused("says nothing of a ledger", **PLACE)
    assert [entry["ledger"] for entry in log.entries()] == ["", *["one"] * 4, *["two"] * 4]
    assert log.last_ledger() == "two"


def test_what_cannot_be_written_down_does_not_leave(tmp_path):
    """Root may write anywhere, so these are places where nobody can."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "egress.jsonl", tmp_path / "folder"):
        with pytest.raises(Refused, match="so nothing leaves"), EgressLog(path).written(**PLACE):
            pass


def test_a_full_disk_is_noticed(tmp_path):
    """A file that may not grow stands for it, in a process of its own."""
    log = EgressLog(tmp_path / "log")
    log.refused("first", **PLACE)
    size = log.path.stat().st_size

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
        with pytest.raises(BrokenLog, match=r"cannot be read or written \(File too large\), so nothing leaves"):
            log.refused("second", **PLACE)

    assert in_a_child(fill) == 0
    log.refused("third", **PLACE)
    assert [entry["reason"] for entry in log.entries()] == ["first", "third"]


def test_a_line_cut_short_is_no_line_and_the_next_one_takes_its_place(tmp_path):
    log = EgressLog(tmp_path / "log")
    log.refused("first", **PLACE)
    with open(log.path, "ab") as file:
        file.write(b'{"n": 1, "time": "2026-')
    assert [entry["reason"] for entry in log.entries()] == ["first"]
    log.refused("third", **PLACE)
    assert [entry["reason"] for entry in log.entries()] == ["first", "third"]


def test_lines_of_several_processes_do_not_mix(tmp_path):
    log = EgressLog(tmp_path / "log")

    def write(child: int):
        for _ in range(25):
            log.refused("y" * 900, **PLACE | {"job": str(child)})

    children = [start_in_a_child(partial(write, child)) for child in range(4)]
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    assert Counter(entry["job"] for entry in log.entries()) == {str(child): 25 for child in range(4)}
