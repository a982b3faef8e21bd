"""`fedrlvr init` as it is called."""

import pytest

from fedrlvr.cli import main


def test_it_says_what_it_wrote_and_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "my_project", "--task", "own"]) == 0
    said = capsys.readouterr().out
    assert "preset.yaml" in said
    assert said.endswith("next: cd my_project, and go on as its README.md says\n")
    assert (tmp_path / "my_project" / "my_project" / "task.py").is_file()


def test_the_folder_may_be_elsewhere(tmp_path, capsys):
    folder = tmp_path / "a place" / "my_project"
    assert main(["init", str(folder), "--task", "math"]) == 0
    assert f"next: cd '{folder}'," in capsys.readouterr().out
    assert (folder / "job.py").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["my-project", "--task", "math"], "error: 'my-project': expected a name that Python can import"),
        (["json", "--task", "math"], "error: 'json': would hide a module"),
    ],
)
def test_bad_input_is_one_message(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["init", *words]) == 2
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("words", [["", "--task", "math"], ["..", "--task"], ["x", "--task", "maths"], ["x"], ["/"]])
def test_arguments_that_are_none(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["init", *words])
    assert caught.value.code == 2
    assert "usage: fedrlvr init" in capsys.readouterr().err
