"""Which folders a proof of concept may use, and that two commands cannot use one at once. Nothing is started here."""

from pathlib import Path

import pytest

from fedrlvr.flare.deploy.poc import LOCK, Poc
from fedrlvr.run import claim
from fedrlvr.settings_file import SettingsError

PROJECT = Path(__file__).parents[3] / "poc" / "project.yml"


def up(folder: Path, port: int | None = None) -> None:
    Poc(folder).up(PROJECT, ["site-1"], None, port)


def test_without_a_proof_of_concept_the_error_says_how_to_start_one(tmp_path):
    for ask in (Poc(tmp_path).running, Poc(tmp_path).down):
        with pytest.raises(
            SettingsError, match=r"no proof of concept in .*; start one: python poc/run\.py up --workspace"
        ):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    """A run's folder has a `flare` of its own, which would be overwritten."""
    result = tmp_path / "flare" / "result"
    result.mkdir(parents=True)
    with pytest.raises(SettingsError, match="holds other things than a proof of concept; expected an empty folder"):
        up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["flare"]
    assert result.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="is a file; expected a folder"):
        up(tmp_path / "file")
    with pytest.raises(ValueError, match="path with a space in it"):
        up(tmp_path / "my poc")


def test_after_a_refusal_another_attempt_is_possible(tmp_path):
    for _ in range(2):
        with pytest.raises(SettingsError, match="--port: expected 1 to 65535, found 70000"):
            up(tmp_path / "poc", port=70000)


def test_one_command_at_a_time(tmp_path):
    with claim(tmp_path, LOCK), pytest.raises(ValueError, match="another command uses this folder"):
        up(tmp_path)
