"""A site's DeepSpeed file that is not right is refused in one short line with its name."""

import pytest

from fedrlvr.learning.engine import read_deepspeed_config


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"7" * 100_000, "a number of too many digits"),
        (b'{"a": 1, "a": 2}', "the key a stands twice"),
        (b'{\n"a": }', "Expecting value at line 2, column 6"),
        (b'{"a": "\xe9"}', "cannot be read as UTF-8"),
        (b"[]", "expected a JSON object"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_file_that_is_not_right_is_refused(tmp_path, content, said):
    path = tmp_path / "deepspeed.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="deepspeed") as caught:
        read_deepspeed_config(path)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(path)) + 200
