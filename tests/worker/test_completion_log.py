"""What a site's people can read of what their model writes, and nobody else."""

import json
from dataclasses import replace

import pytest

from fedrlvr.algorithms.lora import initial_adapter
from fedrlvr.learning.ranks import Ranks
from fedrlvr.protocol.records import Segment
from fedrlvr.types import Completion, Group, Problem
from fedrlvr.worker.completion_log import CompletionLog
from fedrlvr.worker.service import Service

GROUP = Group(
    Problem("p1", "?", "4"),
    (
        Completion((1,), None, "é \\boxed{4}", 1.0, reason="exact"),
        Completion((1,), None, "2", 0.0, True, reason="no box"),
    ),
)


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_has_its_place_the_text_and_the_verdict(tmp_path):
    log = CompletionLog(tmp_path / "completions.jsonl", 2**20)
    log.place = {"round": 2}
    log.write([GROUP])
    about = {"round": 2, "problem_id": "p1"}
    assert lines(log.path) == [
        about | {"text": "é \\boxed{4}", "reward": 1.0, "reason": "exact", "truncated": False},
        about | {"text": "2", "reward": 0.0, "reason": "no box", "truncated": True},
    ]


def test_only_their_owner_can_read_them(tmp_path):
    log = CompletionLog(tmp_path / "completions.jsonl", 600)
    for _ in range(5):
        log.write([GROUP])
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "completions.jsonl": 0o600,
        "completions.jsonl.1": 0o600,
    }


def test_the_newest_are_kept_in_so_many_bytes_and_no_line_is_cut(tmp_path):
    log = CompletionLog(tmp_path / "completions.jsonl", 2000)
    for number in range(50):
        log.place = {"n": number}
        log.write([GROUP])
    files = [log.path.with_name("completions.jsonl.1"), log.path]
    assert sum(path.stat().st_size for path in files) <= 2000
    numbers = [line["n"] for path in files for line in lines(path)]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 49
    assert len(numbers) >= 8
    log.write([Group(GROUP.problem, (Completion((1,), None, "x" * 2000, 0.0),))])  # fits nowhere
    assert sum(path.stat().st_size for path in files if path.exists()) <= 2000


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path, caplog):
    CompletionLog(tmp_path / "missing" / "completions.jsonl", 2000).write([GROUP])
    assert "completions are not logged" in caplog.text


@pytest.mark.parametrize(("megabytes", "logged"), [(1, True), (0, False)])
def test_a_worker_logs_what_it_samples_unless_the_site_says_no(set_up, job, requests_of, megabytes, logged):
    setup = set_up(job, completion_log_mb=megabytes)
    service = Service(setup, Ranks())
    path = setup.site_config.state_dir / "completions.jsonl"
    adapter = initial_adapter(service.ready.adapter_spec, 0)
    try:
        service.answer(requests_of(setup.spec).train(Segment(0, 1, ()), begin_round=True), adapter, "")
    finally:
        service.close(save=False)
    assert path.exists() is logged
    if logged:
        private = setup.site_config.private_problems.read_text()
        found = lines(path)
        assert len(found) == 4 * 4
        assert all(f'"{line["problem_id"]}"' in private for line in found)
        assert {(line["task"], line["round"], line["segment"], line["run"]) for line in found} == {
            ("train", 0, 0, setup.spec.run)
        }


def test_a_swap_has_the_answer_whose_it_is_and_what_stood_in_its_place(tmp_path):
    log = CompletionLog(tmp_path / "completions.jsonl", 2**20)
    log.place = {"round": 2, "segment": 7, "task": "train"}
    theirs = Completion((1,), None, "\\boxed{4}", 1.0, reason="exact", origin="south", problem=GROUP.problem)
    after = replace(GROUP, completions=(GROUP.completions[0], theirs))
    log.write_swaps(6, [GROUP, GROUP], [GROUP, after])
    own = {"problem_id": "p1", "text": "2", "reward": 0.0, "reason": "no box", "truncated": True}
    swap = {"problem_id": "p1", "text": "\\boxed{4}", "reward": 1.0, "reason": "exact", "truncated": False}
    place = {"round": 2, "segment": 6, "task": "train"}
    assert lines(log.path) == [place | swap | {"origin": "south", "instead_of": own}]
