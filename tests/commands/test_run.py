"""`fedrlvr run`: which preset it takes, and that bad input ends in one message."""

import pytest

from fedrlvr.cli import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a PRESET, as in `fedrlvr run demo`, or --resume-from, and not both"),
        (["demo", "--resume-from", "x"], "expected a PRESET, as in `fedrlvr run demo`, or --resume-from, and not both"),
        (["--resume-from", "x"], "--resume-from x: no such folder; expected that of a run"),
        (["nope"], "nope: no such file, and no preset that comes with fedrlvr"),
        (["demo", "--data", "nope"], "nope: holds no site's problems"),
        (["demo", "--model", "nope"], "no config.json in"),
        (["demo", "--start-from", "nope"], "has no adapter_config.json"),
        (["demo", "--set", "deepspeed=zero9.json"], "zero9.json; give a path, or zero0, zero2, zero3"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("workspace/demo-*"))
