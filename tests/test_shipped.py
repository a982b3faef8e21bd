"""What comes with the package, and how a user names it."""

import pytest

from fedrlvr.settings_file import SettingsError
from fedrlvr.shipped import APP_CONFIGS, CONSTRAINTS, file_or_shipped, shipped


def test_a_preset_is_named_or_a_path(tmp_path, monkeypatch):
    assert file_or_shipped("preset", "demo") == APP_CONFIGS / "demo.yaml"
    own = tmp_path / "demo"  # a file of this name is what the user means
    own.write_text("")
    assert file_or_shipped("preset", str(own)) == own
    monkeypatch.chdir(tmp_path)
    assert file_or_shipped("preset", "demo").samefile(own)


@pytest.mark.parametrize("text", ["nope", "nope.yaml", "demo.yaml", "../demo", "site"])
def test_what_is_neither_is_told_with_what_there_is(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=f"{text}: no such file, and no preset .* one of arithmetic, demo-dp, demo"):
        file_or_shipped("preset", text)


def test_the_files_are_there():
    assert {"demo", "math-qwen3-1.7b"} <= set(shipped("preset"))
    assert set(shipped("deepspeed")) == {"zero0", "zero2", "zero3"}
    for kind in ("preset", "deepspeed", "policy"):
        assert all(path.is_file() for path in shipped(kind).values())
    assert CONSTRAINTS.is_file()
