"""Results on disk: gone on from after any cut, never mixed with another measurement's."""

from __future__ import annotations

import pytest

from fedrlvr.settings_file import SettingsError
from fedrlvr.site.tally import Tally
from fedrlvr.site.tally_file import TallyFile

SETTINGS = {"model": "a1", "adapter": None, "temperature": 0.7, "samples": 2, "prompt": {"system_prompt": None}}
TALLIES = [Tally(f"p{i}", "é", 2, i % 3, 0, 0, 4.5 + i) for i in range(4)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "tallies.jsonl"


def written(path, tallies=TALLIES, settings=SETTINGS) -> TallyFile:
    journal = TallyFile(path, settings)
    with journal:
        for tally in tallies:
            journal.write([tally])
    return journal


def test_what_is_written_is_found_again(path):
    assert written(path).done == {tally.id: tally for tally in TALLIES}
    assert TallyFile(path, SETTINGS).done == {tally.id: tally for tally in TALLIES}
    assert [entry.name for entry in path.parent.iterdir()] == ["tallies.jsonl"]


def test_looking_at_a_measurement_writes_nothing(path):
    assert TallyFile(path, SETTINGS).done == {}
    assert not path.parent.exists()


def test_each_result_is_on_disk_before_the_next_is_measured(path):
    with TallyFile(path, SETTINGS) as journal:
        for count, tally in enumerate(TALLIES, start=1):
            journal.write([tally])
            assert len(TallyFile(path, SETTINGS).done) == count


def test_wherever_the_file_is_cut_off_it_is_gone_on_from_there_to_the_same_end(path):
    written(path)
    whole = path.read_bytes()
    assert "é".encode() not in whole  # so that no cut falls within a character
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in sorted(
        {0, 1, len(whole) // 2, *(end + i for end in ends for i in (-2, -1, 0, 1) if end + i <= len(whole))}
    ):
        path.write_bytes(whole[:cut])
        left = max(0, sum(end <= cut for end in ends) - 1)  # the first line says what was measured
        found = TallyFile(path, SETTINGS)
        assert list(found.done.values()) == TALLIES[:left], cut
        written(path, TALLIES[left:])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("name", SETTINGS)
def test_another_measurements_results_are_refused_and_the_setting_is_named(path, name):
    written(path)
    with pytest.raises(SettingsError, match=f"another {name}; choose another folder") as caught:
        TallyFile(path, SETTINGS | {name: "other"})
    assert str(path.parent) in str(caught.value)
    assert len(TallyFile(path, SETTINGS).done) == len(TALLIES)


@pytest.mark.parametrize("line", ['{"id": "p9"}', "not json", "[1]"])
def test_a_line_that_is_no_result_is_an_error(path, line):
    written(path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(SettingsError, match=r"tallies.jsonl: not a measurement's results; choose another folder"):
        TallyFile(path, SETTINGS)


@pytest.mark.parametrize("line", ["[]", "3", "not json", '{"id": "a", "prompt": "A3725?", "answer": "07"}'])
def test_a_file_that_is_no_measurement_is_left_alone(path, line):
    path.parent.mkdir()
    path.write_text(line + "\n")
    with pytest.raises(SettingsError, match="choose another folder"):
        TallyFile(path, SETTINGS)
    assert path.read_text() == line + "\n"
