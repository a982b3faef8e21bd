"""The record of what left: on disk first, and without it nothing leaves."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

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
            entry["count"] = count
    with EgressLog(tmp_path / "log").written(**PLACE | {"kind": "adapter"}) as entry:
        entry["count"] = 100
    EgressLog(tmp_path / "log").refused("no", **PLACE)
    assert EgressLog(tmp_path / "log").answers_released("j1") == 7


@pytest.mark.parametrize(
    "line", ["not json", "\udcff\udc80", "[]", "3", '{"kind": "adapter"}', '{"time": "x", "job": [1]}']
)
def test_a_line_of_something_else_is_named(tmp_path, line):
    log = EgressLog(tmp_path / "log")
    log.refused("no", **PLACE)
    with open(log.path, "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(line + "\n")
    with pytest.raises(Refused, match="line 2: not a line of an egress log"):
        list(log.entries())


def test_what_cannot_be_written_down_does_not_leave(tmp_path):
    """Root may write anywhere, so these are places where nobody can."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "egress.jsonl", tmp_path / "folder"):
        with pytest.raises(Refused, match="so nothing leaves"), EgressLog(path).written(**PLACE):
            pass


def test_a_full_disk_is_noticed():
    with pytest.raises(Refused, match="No space left"):
        EgressLog(Path("/dev/full")).refused("x", **PLACE)


def test_a_line_cut_short_is_no_line_and_the_next_one_takes_its_place(tmp_path):
    log = EgressLog(tmp_path / "log")
    log.refused("first", **PLACE)
    log.refused("second", **PLACE)
    os.truncate(log.path, log.path.stat().st_size - 10)
    assert [entry["reason"] for entry in log.entries()] == ["first"]
    log.refused("third", **PLACE)
    assert [entry["reason"] for entry in log.entries()] == ["first", "third"]


def test_lines_of_several_processes_do_not_mix(tmp_path):
    log = EgressLog(tmp_path / "log")
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            for _ in range(25):
                log.refused("y" * 900, **PLACE | {"job": str(child)})
            os._exit(0)
        children.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    lines = log.path.read_text().splitlines()
    assert len(lines) == 100
    assert sorted({json.loads(line)["job"] for line in lines}) == ["0", "1", "2", "3"]
