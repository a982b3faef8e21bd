"""What a worker says of itself to the people of its machine."""

import pytest

from fedrlvr.worker.doing import DOING, DoingFile, doing_in


def test_the_last_word_is_read_back(tmp_path):
    file = DoingFile(tmp_path)
    file.place = {"run": "ab", "round": 0, "task": "train"}
    file.write("sampling", 3, 0)
    file.write("training", 3, 1)
    assert doing_in(tmp_path, "ab") == "training, step 2"
    assert doing_in(tmp_path, "cd") == ""  # another run's
    assert [path.name for path in tmp_path.iterdir()] == [DOING]
    assert (tmp_path / DOING).stat().st_mode & 0o077 == 0  # for its owner only


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "7", '{"run": "ab"}', '{"run": "ab", "doing": 1, "step": "x"}']
)
def test_where_nothing_can_be_read_nothing_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / DOING).write_text(content)
    assert doing_in(tmp_path, "ab") == ""


def test_a_folder_that_cannot_be_written_to_ends_nothing(tmp_path, caplog):
    DoingFile(tmp_path / "gone").write("sampling", 0, 0)
    assert "doing.json" in caplog.text
