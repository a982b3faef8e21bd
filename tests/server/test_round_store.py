"""What the server keeps of a run: the last whole round, or an error that says why not."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from fedrlvr.protocol.refused import Refused
from fedrlvr.run import KEPT_RUNS
from fedrlvr.sealed_folder import sealed_folders
from fedrlvr.server.round_store import EVENTS_FILE, KEPT_ROUNDS, MOMENTS_FILE, RoundStore, runs_folder
from fedrlvr.settings_file import SettingsError

RUN = "0123456789abcdef"


def adapter(value: float) -> dict[str, torch.Tensor]:
    return {"q.lora_A.weight": torch.full((64, 8), value), "a.lora_B.weight": torch.full((8, 2), -value).T}


@pytest.fixture
def event_log(tmp_path) -> Path:
    path = tmp_path / "job" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text('{"event": "start", "time": 0.0}\n')
    return path


@pytest.fixture
def store(tmp_path) -> RoundStore:
    return RoundStore(tmp_path / "state", RUN, "identity")


def keep(store: RoundStore, event_log: Path, *rounds: int) -> None:
    for number in rounds:
        with open(event_log, "a") as file:
            file.write(f'{{"event": "round", "time": 1.0, "round": {number}}}\n')
        store.save(number, adapter(float(number)), event_log, {"site-1": f"{number:064x}"})


def test_nothing_kept_is_nothing_to_go_on_from(store):
    assert store.latest() is None


def test_the_newest_round_comes_back_with_the_journal_up_to_it(store, event_log):
    keep(store, event_log, 0, 1, 2)
    with open(event_log, "a") as file:
        file.write('{"event": "step"}\n')  # of the round after, which was never completed
    kept = store.latest()
    assert (kept.number, kept.skipped, kept.receipts) == (2, [], {"site-1": f"{2:064x}"})
    assert list(kept.adapter) == ["a.lora_B.weight", "q.lora_A.weight"]
    assert all(torch.equal(kept.adapter[name], tensor) for name, tensor in adapter(2.0).items())
    assert kept.events.read_text().splitlines()[-1] == '{"event": "round", "time": 1.0, "round": 2}'
    assert len(sealed_folders(store.folder)) == KEPT_ROUNDS


def test_moments_of_the_servers_optimizer_come_back_bit_for_bit_and_are_sealed_like_the_adapter(store, event_log):
    keep(store, event_log, 0)
    moments = {f"{m}.q.lora_A.weight": torch.rand(64, 8) for m in "mv"}
    store.save(1, adapter(1.0), event_log, {}, moments)
    kept = store.latest()
    assert kept.moments.keys() == moments.keys()
    assert all(torch.equal(kept.moments[name], tensor) for name, tensor in moments.items())
    (store.folder / "round-000001" / MOMENTS_FILE).unlink()
    older = store.latest()
    assert (older.number, older.moments) == (0, {})
    assert MOMENTS_FILE in older.skipped[0]
    assert not (store.folder / "round-000000" / MOMENTS_FILE).exists()


@pytest.mark.parametrize("file", ["adapter.safetensors", EVENTS_FILE, "round.json", "seal.json"])
def test_a_round_cut_short_is_skipped_said_so_and_the_one_before_is_used(store, event_log, file):
    keep(store, event_log, 0, 1)
    damaged = store.folder / "round-000001" / file
    os.truncate(damaged, damaged.stat().st_size // 2)
    kept = store.latest()
    assert kept.number == 0
    assert len(kept.skipped) == 1
    assert "round-000001" in kept.skipped[0]
    assert torch.equal(kept.adapter["q.lora_A.weight"], torch.zeros(64, 8))


def test_a_round_half_written_is_none(store, event_log):
    keep(store, event_log, 0)
    (store.folder / "round-000001.tmp").mkdir()
    assert store.latest().number == 0


def test_another_jobs_run_is_refused_with_what_may_change(store, event_log, tmp_path):
    keep(store, event_log, 0)
    other = RoundStore(tmp_path / "state", RUN, "another identity")
    with pytest.raises(Refused, match=f"run {RUN} was of a job with other settings.*only rounds, quorum, deadline"):
        other.latest()
    assert store.latest().number == 0


def test_a_new_run_of_the_same_name_begins_with_nothing(store, event_log):
    keep(store, event_log, 0)
    store.clear()
    assert store.latest() is None
    store.clear()  # nothing there: nothing to do


def test_old_runs_are_forgotten_and_this_one_is_not(tmp_path, event_log):
    for number in range(KEPT_RUNS + 2):
        keep(RoundStore(tmp_path / "state", f"{number:016x}", "identity"), event_log, 0)
        os.utime(tmp_path / "state" / f"{number:016x}", (1000 + number, 1000 + number))
    keep(RoundStore(tmp_path / "state", "0" * 16, "identity"), event_log, 1)
    left = {path.name for path in (tmp_path / "state").iterdir()}
    assert left == {"0" * 16, *(f"{number:016x}" for number in range(KEPT_RUNS + 2)[-KEPT_RUNS + 1 :])}


def test_a_full_disk_is_an_error_and_leaves_the_rounds_before_and_no_litter(store, event_log):
    """The kernel lets no file of the writing process grow beyond 1,000 bytes; an adapter has 2,176 and a header."""
    keep(store, event_log, 0, 1)
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        import torch
        from fedrlvr.server.round_store import RoundStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        state, run, event_log = sys.argv[1:]
        try:
            RoundStore(Path(state), run, "identity").save(2, {"q": torch.ones(64, 8)}, Path(event_log), {})
        except OSError as error:
            print(error.strerror)
    """)
    arguments = [str(store.folder.parent), RUN, str(event_log)]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "File too large", done.stderr
    kept = store.latest()
    assert (kept.number, kept.skipped) == (1, [])
    assert sorted(path.name for path in store.folder.iterdir()) == ["round-000000", "round-000001"]


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path, event_log):
    (tmp_path / "state").write_text("a plain file")
    store = RoundStore(tmp_path / "state", RUN, "identity")
    for action in (store.open, lambda: keep(store, event_log, 0)):
        with pytest.raises(OSError, match="state"):
            action()


def test_opening_finds_out_whether_it_can_be_written(store):
    store.open()
    assert list(store.folder.iterdir()) == []


def test_runs_are_kept_where_the_servers_own_file_says(tmp_path):
    assert runs_folder(tmp_path) == tmp_path / "fedrlvr"
    local = tmp_path / "local"
    local.mkdir()
    (local / "fedrlvr.yaml").write_text("state_dir: ../elsewhere\n")
    assert runs_folder(tmp_path) == local / "../elsewhere"
    (local / "fedrlvr.server.yaml").write_text("state_dir: /absolute\n")
    assert runs_folder(tmp_path) == Path("/absolute")
    (local / "fedrlvr.server.yaml").write_text("stat_dir: /absolute\n")
    with pytest.raises(SettingsError, match="state_dir"):
        runs_folder(tmp_path)
