"""Results on disk: gone on from after any cut, never mixed with another measurement's."""

from __future__ import annotations

import pytest

from fedrlvr.learning.results import ProblemResult
from fedrlvr.learning.results_file import ResultsFile
from fedrlvr.settings_file import SettingsError

SETTINGS = {"model": "a1", "adapter": None, "temperature": 0.7, "samples": 2, "prompt": {"system_prompt": None}}
TALLIES = [ProblemResult(f"p{i}", "é", 2, i % 3, 0, 0, 4.5 + i) for i in range(4)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "results.jsonl"


def written(path, results=TALLIES, settings=SETTINGS) -> ResultsFile:
    event_log = ResultsFile(path, settings)
    with event_log:
        for result in results:
            event_log.write([result])
    return event_log


def test_what_is_written_is_found_again(path):
    assert written(path).done == {result.id: result for result in TALLIES}
    assert ResultsFile(path, SETTINGS).done == {result.id: result for result in TALLIES}
    assert [entry.name for entry in path.parent.iterdir()] == ["results.jsonl"]


def test_looking_at_a_measurement_writes_nothing(path):
    assert ResultsFile(path, SETTINGS).done == {}
    assert not path.parent.exists()


def test_each_result_is_on_disk_before_the_next_is_measured(path):
    with ResultsFile(path, SETTINGS) as event_log:
        for count, result in enumerate(TALLIES, start=1):
            event_log.write([result])
            assert len(ResultsFile(path, SETTINGS).done) == count


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
        found = ResultsFile(path, SETTINGS)
        assert list(found.done.values()) == TALLIES[:left], cut
        written(path, TALLIES[left:])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("name", SETTINGS)
def test_another_measurements_results_are_refused_and_the_setting_is_named(path, name):
    written(path)
    with pytest.raises(SettingsError, match=f"another {name}; choose another folder") as caught:
        ResultsFile(path, SETTINGS | {name: "other"})
    assert str(path.parent) in str(caught.value)
    assert len(ResultsFile(path, SETTINGS).done) == len(TALLIES)


@pytest.mark.parametrize("line", ['{"id": "p9"}', "not json", "[1]"])
def test_a_line_that_is_no_result_is_an_error(path, line):
    written(path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(SettingsError, match=r"results.jsonl: not a measurement's results; choose another folder"):
        ResultsFile(path, SETTINGS)


@pytest.mark.parametrize("line", ["[]", "3", "not json", '{"id": "a", "prompt": "A3725?", "answer": "07"}'])
def test_a_file_that_is_no_measurement_is_left_alone(path, line):
    path.parent.mkdir()
    path.write_text(line + "\n")
    with pytest.raises(SettingsError, match="choose another folder"):
        ResultsFile(path, SETTINGS)
    assert path.read_text() == line + "\n"
