"""Results on disk: gone on from after any cut, never mixed with another measurement's."""

from __future__ import annotations

import json
import shutil

import pytest

from fedrlvr.settings_file import SettingsError
from fedrlvr.site.tally import Tally
from fedrlvr.site.tally_file import TallyFile, weights_fingerprint

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


@pytest.fixture
def fingerprinted(model_path, tmp_path):
    """A copy of the model that can be edited: edited(name, edit) -> the fingerprint afterwards."""
    model = shutil.copytree(model_path, tmp_path / "model")

    def edited(name: str, edit) -> str:
        content = (model / name).read_bytes() if (model / name).exists() else b""
        (model / name).write_bytes(edit(content))
        return weights_fingerprint(model)

    return edited


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_equal_directories_have_equal_fingerprints_and_any_change_shows(model_path, tmp_path, fingerprinted):
    before = weights_fingerprint(model_path)
    assert weights_fingerprint(shutil.copytree(model_path, tmp_path / "elsewhere")) == before
    size = (model_path / "model.safetensors").stat().st_size
    seen = [
        before,
        fingerprinted("model.safetensors", lambda content: flipped(content, size // 2)),
        fingerprinted("model.safetensors", lambda content: content + b"\0"),
        fingerprinted("tokenizer.json", lambda content: content + b" "),
        fingerprinted("config.json", lambda content: json.dumps(json.loads(content) | {"rms_norm_eps": 1}).encode()),
        fingerprinted("chat_template.jinja", lambda content: b"{{ messages[0]['content'] }}"),
        fingerprinted("chat_template.jinja", lambda content: b"{{ messages[0]['content'] }}!"),
        fingerprinted("another.safetensors", lambda content: b""),
    ]
    assert len(set(seen)) == len(seen)
    fingerprinted("README.md", lambda content: b"about")
    assert fingerprinted("another.safetensors", lambda content: b"") == seen[-1]


def test_one_changed_weight_in_the_middle_of_a_large_file_shows(tmp_path):
    """Three samples' worth: the middle one is looked at."""
    weights = tmp_path / "model.safetensors"
    content = bytes(3 << 20)
    weights.write_bytes(content)
    before = weights_fingerprint(tmp_path)
    weights.write_bytes(flipped(content, 3 << 19))
    assert weights_fingerprint(tmp_path) != before
