"""What a site keeps on disk: whole, of this run, of this job; enough to go on, and no more than that."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tensors import same

from fedrlvr.learning.ranks import Ranks
from fedrlvr.learning.trainer_state import SiteProgress, TrainerState
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.sealed_folder import check_seal, sealed_folders
from fedrlvr.worker.checkpoint import KEPT_NEWEST, KEPT_ROUNDS, NotThere, SiteCheckpoints

RUN = "0123456789abcdef"
POOL = [("site-2", PublicResponse("p1", "ä\n2", 3, (-0.5, 0.0))), ("site-3", PublicResponse("p1", "b", 0))]


def state(place: SiteProgress, value: float = 0.0) -> TrainerState:
    adapter = {"b": torch.full((3, 2), value).T, "a": torch.arange(4.0)}
    optimizer = {"0.parameter": torch.full((7,), value), "0.step": torch.tensor(3.0)}
    return TrainerState(place, True, adapter, {n: t + 1 for n, t in adapter.items()}, optimizer, POOL, {"p1": 0.25})


@pytest.fixture
def checkpoints(tmp_path) -> SiteCheckpoints:
    return SiteCheckpoints(tmp_path, RUN, "identity", Ranks())


def kept(checkpoints: SiteCheckpoints) -> list[str]:
    return [path.name for path in sealed_folders(checkpoints.folder)]


def test_later_places_are_greater_and_their_folders_sort_alike(checkpoints):
    places = [
        SiteProgress(),
        SiteProgress(0, 0),
        SiteProgress(0, 1),
        SiteProgress(0, 1, True),
        SiteProgress(0, 2),
        SiteProgress(0, 10),
        SiteProgress(1, 10),
    ]
    assert places == sorted(places)
    for place in places[1:]:
        checkpoints.save(state(place), "")
        assert checkpoints.latest()[0].progress == place


def test_what_was_saved_comes_back(checkpoints):
    saved = state(SiteProgress(2, 5, True), 0.5)
    checkpoints.save(saved, "ledger's hash")
    back, ledger = checkpoints.latest()
    assert ledger == "ledger's hash"
    assert (back.progress, back.given, back.pool) == (saved.progress, True, POOL)
    assert back.pool[0][1].logprobs == (-0.5, 0.0)
    assert back.targets == {"p1": 0.25}
    for name in ("adapter", "start", "optimizer"):
        assert same(getattr(back, name), getattr(saved, name))
    assert list(back.adapter) == ["a", "b"]


def test_nothing_saved_is_nothing_to_go_on_from(checkpoints):
    assert checkpoints.latest() is None
    assert checkpoints.rewind(0) is None


@pytest.mark.parametrize("file", ["adapter", "start", "optimizer-0", "state.json", "seal.json"])
def test_a_damaged_newest_one_is_passed_over_for_the_one_before(checkpoints, file, caplog):
    checkpoints.save(state(SiteProgress(0, 1), 1.0), "")
    checkpoints.save(state(SiteProgress(0, 2), 2.0), "")
    newest = sealed_folders(checkpoints.folder)[-1]
    damaged = newest / (file if file.endswith("json") else f"{file}.safetensors")
    os.truncate(damaged, damaged.stat().st_size // 2)
    assert checkpoints.latest()[0].progress == SiteProgress(0, 1)
    assert f"checkpoint not used: {newest}" in caplog.text


def test_all_damaged_is_as_none(checkpoints):
    checkpoints.save(state(SiteProgress(0, 1)), "")
    (sealed_folders(checkpoints.folder)[0] / "start.safetensors").unlink()
    assert checkpoints.latest() is None


def test_what_is_of_something_else_is_not_used(checkpoints, tmp_path, caplog):
    checkpoints.save(state(SiteProgress(0, 1)), "")
    assert SiteCheckpoints(tmp_path, RUN, "another job, site or model", Ranks()).latest() is None
    assert "is of another job, model, lora_rank, number of processes or DeepSpeed stage" in caplog.text
    assert SiteCheckpoints(tmp_path, "f" * 16, "identity", Ranks()).latest() is None
    assert checkpoints.latest() is not None


def test_the_newest_two_and_the_last_rounds_beginnings_are_kept(checkpoints):
    for number in range(4):
        checkpoints.save(state(SiteProgress(number - 1, number * 3)), "", beginning_of=number)
        for segment in range(1, 4):
            checkpoints.save(state(SiteProgress(number, number * 3 + segment)), "")
    assert (KEPT_ROUNDS, KEPT_NEWEST) == (2, 2)
    assert kept(checkpoints) == [
        "000002-begins", "000003-begins", "000003-segment-0000011", "000003-segment-0000012"
    ]  # fmt: skip


def test_rewinding_forgets_what_came_after(checkpoints):
    checkpoints.save(state(SiteProgress(0, 3), 1.0), "then", beginning_of=1)
    for segment in (4, 5):
        checkpoints.save(state(SiteProgress(1, segment), 2.0), "later")
    back, ledger = checkpoints.rewind(1)
    assert (back.progress, ledger) == (SiteProgress(0, 3), "then")
    assert kept(checkpoints) == ["000001-begins"]
    assert checkpoints.latest()[0].progress == SiteProgress(0, 3)


def test_where_there_is_no_beginning_to_rewind_to_nothing_is_forgotten(checkpoints):
    checkpoints.save(state(SiteProgress(1, 4)), "")
    assert checkpoints.rewind(1) is None
    assert checkpoints.latest()[0].progress == SiteProgress(1, 4)


def test_another_attempt_at_a_place_replaces_the_first_and_what_followed_it(checkpoints):
    for segment in (1, 2, 3):
        checkpoints.save(state(SiteProgress(0, segment), 1.0), "")
    checkpoints.save(state(SiteProgress(0, 2), 2.0), "")
    assert checkpoints.latest()[0].progress == SiteProgress(0, 2)
    assert float(checkpoints.latest()[0].optimizer["0.parameter"][0]) == 2.0


def test_the_adapter_that_a_round_began_with_is_on_disk_once(checkpoints, tmp_path):
    """However many checkpoints of the round there are, and whether or not the worker is still the same."""
    first = state(SiteProgress(0, 1), 1.0)
    checkpoints.save(first, "")
    checkpoints.save(replace(first, progress=SiteProgress(0, 2)), "")
    again = SiteCheckpoints(tmp_path, RUN, "identity", Ranks())
    read, _ = again.latest()
    again.save(replace(read, progress=SiteProgress(0, 3)), "")
    files = [path / "start.safetensors" for path in sealed_folders(checkpoints.folder)]
    assert len(files) == KEPT_NEWEST
    assert len({file.stat().st_ino for file in files}) == 1
    assert same(again.latest()[0].start, first.start)

    again.save(state(SiteProgress(1, 4), 2.0), "")
    assert same(again.latest()[0].start, state(SiteProgress(1, 4), 2.0).start)


def test_where_the_adapter_in_common_is_damaged_the_rounds_beginning_is_used(checkpoints):
    checkpoints.save(state(SiteProgress(0, 3), 1.0), "", beginning_of=1)
    first = state(SiteProgress(1, 4), 2.0)
    checkpoints.save(first, "")
    checkpoints.save(replace(first, progress=SiteProgress(1, 5)), "")
    os.truncate(sealed_folders(checkpoints.folder)[-1] / "start.safetensors", 10)
    assert checkpoints.latest()[0].progress == SiteProgress(0, 3)


def test_where_files_cannot_be_linked_each_checkpoint_has_its_own(checkpoints, monkeypatch):
    def no_links(there, here):
        raise OSError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    first = state(SiteProgress(0, 1), 1.0)
    checkpoints.save(first, "")
    checkpoints.save(replace(first, progress=SiteProgress(0, 2)), "")
    assert same(checkpoints.latest()[0].start, first.start)
    for folder in sealed_folders(checkpoints.folder):
        check_seal(folder)


def test_a_new_job_begins_with_nothing(checkpoints):
    checkpoints.save(state(SiteProgress(0, 1)), "")
    checkpoints.clear()
    assert checkpoints.latest() is None


def test_a_full_disk_is_an_error_and_leaves_the_earlier_ones_and_no_litter(checkpoints, tmp_path):
    """The kernel lets no file of the writing process grow beyond 1,000 bytes; an optimizer here has 40,000."""
    checkpoints.save(state(SiteProgress(0, 1)), "")
    script = textwrap.dedent(f"""
        import resource, signal, sys
        from pathlib import Path
        import torch
        from fedrlvr.learning.ranks import Ranks
        from fedrlvr.learning.trainer_state import SiteProgress, TrainerState
        from fedrlvr.worker.checkpoint import SiteCheckpoints
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        state = TrainerState(SiteProgress(0, 2), True, {{"a": torch.zeros(2)}}, {{"a": torch.zeros(2)}},
                             {{"0": torch.zeros(10_000)}}, [])
        try:
            SiteCheckpoints(Path(sys.argv[1]), {RUN!r}, "identity", Ranks()).save(state, "")
        except OSError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[Errno 27] File too large", done.stderr
    assert [path.name for path in checkpoints.folder.iterdir()] == ["000000-segment-0000001"]
    assert checkpoints.latest()[0].progress == SiteProgress(0, 1)


def test_what_a_killed_writer_left_is_gone_with_the_next_save(checkpoints):
    checkpoints.save(state(SiteProgress(0, 1)), "")
    half = checkpoints.folder / "000000-segment-0000002.tmp"
    half.mkdir()
    (half / "adapter.safetensors").write_bytes(b"half")
    assert checkpoints.latest()[0].progress == SiteProgress(0, 1)
    checkpoints.save(state(SiteProgress(0, 3)), "")
    assert not half.exists()


def test_no_random_state_and_nothing_private_but_tensors_is_kept(checkpoints):
    checkpoints.save(replace(state(SiteProgress(0, 1)), pool=[]), "")
    folder = sealed_folders(checkpoints.folder)[0]
    check_seal(folder)
    values = json.loads((Path(folder) / "state.json").read_text())
    assert set(values) == {"identity", "place", "given", "ledger", "pool", "targets", "found", "unsolved"}


HOLDER = """
import sys, time
from pathlib import Path
from fedrlvr.worker.checkpoint import SiteCheckpoints
from fedrlvr.learning.ranks import Ranks
mine = SiteCheckpoints(Path(sys.argv[1]), sys.argv[2], "identity", Ranks())
mine.claim()
print("claimed", flush=True)
time.sleep(600)
"""


def test_only_one_worker_is_at_a_run_and_a_killed_one_is_none(checkpoints, tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path, RUN], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "claimed\n"
        with pytest.raises(NotThere, match="a worker of an earlier job still works on this run"):
            checkpoints.claim(patience=0.0)
        SiteCheckpoints(tmp_path, "f" * 16, "identity", Ranks()).claim(patience=0.0)  # of another run
        holder.kill()
    checkpoints.claim(patience=0.0)


def test_a_run_that_is_released_is_anothers(checkpoints, tmp_path):
    """In the same process, too: a worker need not be one of its own."""
    other = SiteCheckpoints(tmp_path, RUN, "identity", Ranks())
    checkpoints.claim(patience=0.0)
    with pytest.raises(NotThere, match="a worker of an earlier job still works on this run"):
        other.claim(patience=0.0)
    checkpoints.release()
    other.claim(patience=0.0)
    checkpoints.release()  # which holds nothing any more, and takes nothing from the other
    with pytest.raises(NotThere):
        checkpoints.claim(patience=0.0)
