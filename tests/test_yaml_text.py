"""YAML from outside: what is wrong with it is one short line, and costs neither time nor memory."""

import pytest
from pydantic import Field

from fedrlvr.config import Settings
from fedrlvr.settings_file import SettingsError, apply_override, load_settings
from fedrlvr.yaml_text import YamlError, from_yaml

# Nine levels of ten aliases each would be a thousand million texts.
BOMB = "a0: &a0 lol\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))

WRONG = [
    (BOMB, "an alias (*name); write out what it stands for at line 2"),
    ("a: &x {b: 1}\nc: {<<: *x}", "an alias"),
    ("a: &x [*x]", "an alias"),
    ("a: !!python/name:os.system", "a tag (!name)"),
    ("a: !!float x", "a tag (!name)"),
    ("[" * 50_000, "nested more than 20 deep"),
    ("- " * 40_000 + "a", "nested more than 20 deep"),
    ("{" * 50_000, "nested more than 20 deep"),
    ("a: " + "7" * 99_000, "an integer that cannot be read, or has over 64 bits at line 1, column 4"),
    ("a: 0x" + "f" * 99_000, "an integer that cannot be read, or has over 64 bits"),
    ("a: 0b__", "an integer that cannot be read"),
    ("a: " + "x" * 100_000, "longer than 100,000 bytes"),
    ("a: 1\nb: 2\na: 3", "the key a stands twice at line 3, column 1"),
    ("a: {b: 1, b: 1}", "the key b stands twice at line 1"),
    ("a: 2024-13-45", "month must be in 1..12"),
    ("a: b: c", "mapping values are not allowed here at line 1, column 5"),
    ("a: [1", "at line 1, column 6"),
    ("a: 1\n---\nb: 2", "another document at line 2"),
    ("? [a]\n: 1", "unhashable key at line 1"),
    ("a: '\x1b[2J'", r"the character '\x1b' at 5"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=lambda value: repr(value)[:30])
def test_what_is_wrong_is_one_short_line(text, said):
    with pytest.raises(YamlError) as caught:
        from_yaml(text)
    message = str(caught.value)
    assert said in message
    assert message.isprintable()
    assert len(message) < 250


def test_plain_yaml_is_read():
    text = "\ufeffa: 1\nb: [0.5, 1_000, -0x10, on, null, '007']\nc: {d: {e: text}}\n# end\n"
    assert from_yaml(text) == {"a": 1, "b": [0.5, 1000, -16, True, None, "007"], "c": {"d": {"e": "text"}}}


class Few(Settings):
    count: int = Field(1, ge=1)
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB.encode(), "an alias"),
        (b"count: [" + b"[" * 5000, "nested more than 20 deep"),
        (b"count: " + b"9" * 90_000, "an integer that cannot be read"),
        (b"count: '" + b"x" * 90_000 + b"'", "count: Input should be a valid integer"),
        (b"count: {" + b", ".join(b"k%d: 1" % n for n in range(9000)) + b"}", "count: Input should be a valid integer"),
        (b"k" * 900 + b": 1", "unknown setting"),
        (b"count: caf\xe9", "byte 11 is 0xe9): the file seems to be in another encoding"),
        ("count: 1".encode("utf-16"), "the file seems to be in UTF-16"),
        (b"count: 1\n" + b"#" * 10**7, "longer than 100,000 bytes"),
        (("count: 1\n##" + "é" * 50_000 + "\nnames: [a]").encode(), "longer than 100,000 bytes"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_settings_file_is_refused_in_one_short_line_with_its_name(tmp_path, content, said):
    path = tmp_path / "site.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(Few, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300


def test_of_many_errors_some_are_listed_and_the_others_counted(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("names: [" + ", ".join(map(str, range(500))) + "]")
    with pytest.raises(SettingsError) as caught:
        load_settings(Few, path)
    assert str(caught.value).count("\n") == 20
    assert str(caught.value).endswith("and 480 more errors")


@pytest.mark.parametrize("value", ["[" * 50_000, "7" * 90_000, "&a [*a]", "!x 1"])
def test_an_override_is_refused_in_one_short_line(value):
    with pytest.raises(SettingsError) as caught:
        apply_override({}, f"grpo.epsilon={value}")
    assert "not valid YAML" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
