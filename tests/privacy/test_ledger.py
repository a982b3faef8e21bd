"""What is spent stays spent: through restarts, kills, tampering, clocks and crowds."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fedrlvr.privacy.accountant import ExampleNoise, SiteNoise, epsilon
from fedrlvr.privacy.append_log import BrokenLog
from fedrlvr.privacy.ledger import Ledger, Source
from fedrlvr.protocol.refused import Refused

ONE = SiteNoise(1.0)
DELTA = 1e-5


@pytest.fixture
def path(tmp_path):
    return tmp_path / "local" / "ledger.jsonl"


def spent(ledger: Ledger) -> float:
    return epsilon(ledger.charges(Source("m"), SiteNoise), DELTA)


def charged(path, times: int, model: str = "m", limit: float | None = None, site: str = "ward-7") -> float:
    return [Ledger(path, site).charge(Source(model), "job", ONE, DELTA, limit) for _ in range(times)][-1]


def test_charges_add_up_over_restarts_and_jobs_and_models_have_budgets_of_their_own(path):
    assert charged(path, 3) == pytest.approx(epsilon([SiteNoise(1.0, 3)], DELTA))
    assert charged(path, 1, model="other") == pytest.approx(epsilon([ONE], DELTA))
    ledger = Ledger(path, "ward-7")
    assert spent(ledger) == pytest.approx(epsilon([SiteNoise(1.0, 3)], DELTA))
    assert ledger.charges(Source("m"), ExampleNoise) == []
    assert ledger.budgets() == [[Source("m")], [Source("other")]]
    steps = ExampleNoise(0.1, 1.0, 1, 10)
    assert ledger.charge(Source("m"), "job", steps, DELTA, None) == pytest.approx(
        epsilon([steps], DELTA)
    )  # another unit
    assert len(path.read_text().splitlines()) == 1 + 5
    assert path.stat().st_mode & 0o077 == 0


def test_the_budget_ends_exactly_where_the_closed_form_says(path):
    limit = epsilon([SiteNoise(1.0, 7)], DELTA)
    assert charged(path, 7, limit=limit) == pytest.approx(limit)
    before = path.read_bytes()
    with pytest.raises(Refused, match=r"the privacy budget for 'm' is spent: epsilon .* \(unit: site\)"):
        charged(path, 1, limit=limit)
    assert path.read_bytes() == before
    charged(path, 1, model="other", limit=limit)


def tampered(kind: str, path) -> None:
    head = path.with_name("ledger.jsonl.head")
    lines = path.read_text().splitlines(keepends=True)
    match kind:
        case "edited":
            lines[2] = lines[2].replace('"noise_multiplier": 1.0', '"noise_multiplier": 9.0')
        case "last edited":
            lines[-1] = lines[-1].replace('"noise_multiplier": 1.0', '"noise_multiplier": 9.0')
        case "swapped":
            lines[1], lines[2] = lines[2], lines[1]
        case "one missing in the middle":
            del lines[2]
        case "last missing":
            del lines[-1]
        case "all but the first missing":
            del lines[1:]
        case "cut in the last line":
            lines[-1] = lines[-1][:20]
        case "empty":
            lines = []
        case "not JSON":
            lines[1] = "hello\n"
        case "doubled":
            lines.append(lines[-1])
        case "head missing":
            head.unlink()
        case "head damaged":
            head.write_text("{}")
        case "two too many":
            lines += ["{}\n", "{}\n"]
        case "gone":
            return path.unlink()
    path.write_text("".join(lines))


TRICKS = [
    "edited",
    "last edited",
    "swapped",
    "one missing in the middle",
    "last missing",
    "all but the first missing",
    "cut in the last line",
    "empty",
    "not JSON",
    "doubled",
    "head missing",
    "head damaged",
    "two too many",
    "gone",
]


@pytest.mark.parametrize("kind", TRICKS)
def test_a_ledger_that_was_tampered_with_refuses(path, kind):
    charged(path, 4)
    tampered(kind, path)
    for use in (lambda: charged(path, 1), lambda: Ledger(path, None).budgets()):
        with pytest.raises(BrokenLog, match="nothing that costs budget leaves"):
            use()


def test_anothers_ledger_is_refused(path):
    charged(path, 1)
    with pytest.raises(BrokenLog, match="it is the ledger of 'ward-7', this is 'ward-8'"):
        charged(path, 1, site="ward-8")


def test_an_older_copy_of_ledger_and_head_is_noticed_by_what_the_log_saw(path):
    charged(path, 2)
    copies = {p: p.read_bytes() for p in path.parent.iterdir()}
    charged(path, 2)
    seen = Ledger(path, "ward-7").last_hash()
    Ledger(path, "ward-7").check_knows(seen)
    for place, content in copies.items():
        place.write_bytes(content)
    with pytest.raises(BrokenLog, match="lines are missing that the egress log has seen"):
        Ledger(path, "ward-7").check_knows(seen)


@pytest.mark.parametrize(
    "values",
    [
        {"mechanism": "SiteNoise", "noise_multiplier": 0.0, "releases": 1},
        {"mechanism": "SiteNoise", "noise_multiplier": 1.0, "releases": -5},
        {"mechanism": "SiteNoise", "noise_multiplier": float("nan"), "releases": 1},
        {"mechanism": "SiteNoise", "noise_multiplier": 1.0},
        {"mechanism": "ExampleNoise", "sampling_rate": 1.5, "noise_multiplier": 1.0, "iterations": 1, "steps": 1},
        {"mechanism": "ExampleNoise", "sampling_rate": 0.5, "noise_multiplier": 1.0, "iterations": 0, "steps": 1},
        {"mechanism": "NoNoise"},
        {},
    ],
)
def test_a_line_that_is_no_charge_is_refused_even_in_a_sound_chain(path, values):
    charged(path, 1)
    log = Ledger(path, "ward-7")
    with log.locked():
        log.append({"model": "m", "job": "j", **values})
    with pytest.raises(BrokenLog, match="line 3"):
        charged(path, 1)


def test_a_clock_set_back_changes_nothing_and_is_noted(path):
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    for hours, times in ((0, 2), (-24 * 365, 2), (1, 1)):
        for _ in range(times):
            Ledger(path, "ward-7", lambda hours=hours: noon + timedelta(hours=hours)).charge(
                Source("m"), "j", ONE, DELTA, None
            )
    assert spent(Ledger(path, "ward-7")) == pytest.approx(epsilon([SiteNoise(1.0, 5)], DELTA))
    notes = [json.loads(line).get("clock_back_seconds") for line in path.read_text().splitlines()]
    assert notes == [None, None, None, 24 * 365 * 3600, None, None]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "ledger.jsonl").mkdir(parents=True)
    for path in (tmp_path / "file" / "ledger.jsonl", tmp_path / "folder" / "ledger.jsonl"):
        with pytest.raises(BrokenLog, match="cannot be read or written"):
            charged(path, 1)


def test_a_torn_line_was_never_released_and_is_cut_off(path):
    charged(path, 2)
    with open(path, "ab") as file:
        file.write(b'{"n": 3, "model": "m", "mech')
    assert spent(Ledger(path, "ward-7")) == pytest.approx(epsilon([SiteNoise(1.0, 2)], DELTA))
    assert charged(path, 1) == pytest.approx(epsilon([SiteNoise(1.0, 3)], DELTA))


def test_a_line_whose_head_was_not_written_any_more_counts(path):
    charged(path, 2)
    head = path.with_name("ledger.jsonl.head")
    old = head.read_bytes()
    charged(path, 1)
    head.write_bytes(old)
    assert charged(path, 1) == pytest.approx(epsilon([SiteNoise(1.0, 4)], DELTA))


def test_a_disk_that_stays_full_costs_neither_charges_nor_the_ledger(path, monkeypatch, no_space):
    """The line fits, the new head does not, several times in a row."""
    charged(path, 2)
    with monkeypatch.context() as full:
        full.setattr(os, "replace", no_space)
        for _ in range(3):
            with pytest.raises(BrokenLog, match="No space left on device"):
                charged(path, 1)
    assert charged(path, 1) == pytest.approx(epsilon([SiteNoise(1.0, 3)], DELTA))


OLDER_LEDGER = """\
{"before": "", "format": "fedrlvr ledger 1", "id": "4a53ae3ecff1e43b", "n": 0, "site": "ward-7", \
"time": "2026-05-01T12:00:00+00:00"}
{"before": "%s", "job": "j", "mechanism": "SiteNoise", "model": "m", "n": 1, "noise_multiplier": 1.0, "releases": 1, \
"time": "2026-05-01T12:00:00+00:00"}
"""


def test_a_ledger_of_an_earlier_version_is_read_and_continued(path):
    """It sorted the fields of a line."""
    path.parent.mkdir()
    first = hashlib.sha256(OLDER_LEDGER.splitlines()[0].encode()).hexdigest()
    path.write_text(OLDER_LEDGER % first)
    last = hashlib.sha256((OLDER_LEDGER % first).splitlines()[1].encode()).hexdigest()
    path.with_name("ledger.jsonl.head").write_text(json.dumps({"lines": 2, "last": last}))
    assert Ledger(path, "ward-7").last_hash() == last
    assert charged(path, 1) == pytest.approx(epsilon([SiteNoise(1.0, 2)], DELTA))
    Ledger(path, "ward-7").check_knows(last)


def test_lines_without_a_chain_are_no_ledger(path):
    charged(path, 2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["n"], line["before"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    path.with_name("ledger.jsonl.head").unlink()
    with pytest.raises(BrokenLog, match="line 1 is not a ledger's first line"):
        charged(path, 1)


def _charge_ten(path, model):
    charged(path, 10, model=model)


def test_a_crowd_loses_no_charge(path):
    crowd = [multiprocessing.get_context("fork").Process(target=_charge_ten, args=(path, "m")) for _ in range(4)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(60)
    assert [process.exitcode for process in crowd] == [0] * 4
    assert spent(Ledger(path, "ward-7")) == pytest.approx(epsilon([SiteNoise(1.0, 40)], DELTA))


CHARGE_FOREVER = """
import sys
from pathlib import Path
from fedrlvr.privacy.accountant import SiteNoise
from fedrlvr.privacy.ledger import Ledger, Source
while True:
    Ledger(Path(sys.argv[1]), "ward-7").charge(Source("m"), "job", SiteNoise(1.0), 1e-5, None)
    print("charged", flush=True)
"""


def test_a_charge_that_was_reported_survives_a_kill(path):
    random, reported = np.random.default_rng(11), 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", CHARGE_FOREVER, str(path)], stdout=subprocess.PIPE, text=True)
        reported += process.stdout.readline() == "charged\n"
        time.sleep(float(random.uniform(0, 0.2)))
        os.kill(process.pid, signal.SIGKILL)
        reported += process.communicate()[0].count("charged\n")
    assert reported >= 3
    ledger = Ledger(path, "ward-7")
    ledger.charge(Source("m"), "job", ONE, DELTA, None)
    charges = sum('"SiteNoise"' in line for line in path.read_text().splitlines())
    assert reported + 1 <= charges <= reported + 1 + 3  # at most one a kill that nobody was told of


FAR_BACK = ("edited", "swapped", "one missing in the middle", "not JSON")


@pytest.mark.parametrize("kind", [trick for trick in TRICKS if trick not in FAR_BACK])
def test_a_ledger_is_noticed_that_was_tampered_with_after_it_was_read(path, kind):
    """Lines that were read once are not read again while their end is unchanged. The next process notices."""
    ledger = Ledger(path, "ward-7")
    for _ in range(4):
        ledger.charge(Source("m"), "job", ONE, DELTA, None)
    tampered(kind, path)
    with pytest.raises(BrokenLog, match="nothing that costs budget leaves"):
        ledger.charge(Source("m"), "job", ONE, DELTA, None)


def test_a_ledger_that_its_owner_moved_away_begins_anew_in_a_running_process(path):
    ledger = Ledger(path, "ward-7")
    for _ in range(3):
        ledger.charge(Source("m"), "job", ONE, DELTA, None)
    for file in list(path.parent.iterdir()):
        file.rename(file.with_name("old-" + file.name))
    assert spent(ledger) == 0.0
    for times in (1, 2):
        ledger.charge(Source("m"), "job", ONE, DELTA, None)
        assert spent(ledger) == pytest.approx(epsilon([SiteNoise(1.0, times)], DELTA))
    assert json.loads(path.read_text().splitlines()[0])["site"] == "ward-7"
    assert spent(Ledger(path, "ward-7")) == spent(ledger)


def test_charges_of_others_count_at_once(path):
    one, other = Ledger(path, "ward-7"), Ledger(path, "ward-7")
    for times in range(1, 6):
        (one if times % 2 else other).charge(Source("m"), "job", ONE, DELTA, None)
        assert spent(one) == spent(other) == pytest.approx(epsilon([SiteNoise(1.0, times)], DELTA))


@pytest.mark.parametrize("time", [None, 7, "yesterday", ""])
def test_a_line_without_a_time_is_no_charge(path, time):
    charged(path, 1)
    log = Ledger(path, "ward-7")
    with log.locked():
        log.append({"model": "m", "mechanism": "SiteNoise", "noise_multiplier": 1.0, "releases": 1, "time": time})
    with pytest.raises(BrokenLog, match="line 3 has no time"):
        charged(path, 1)
