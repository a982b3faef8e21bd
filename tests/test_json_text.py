"""JSON from outside: what is wrong with it is one short line, whatever it is."""

import json

import pytest

from fedrlvr.json_text import JsonError, from_json, json_array

WRONG = [
    ('{"a": 1, "b": 2, "a": 3}', "the key a stands twice in one object"),
    ('[{"x": {"a": 1, "a": 1}}]', "the key a stands twice in one object"),
    ('{"' + "k" * 999 + '": 1, "' + "k" * 999 + '": 2}', "the key 'kkk"),
    ('{"' + "\U0001f600" * 999 + '": 1, "' + "\U0001f600" * 999 + '": 2}', r"the key '\U0001f600\U0001f600"),
    ('{"\\u001b[2J": 1, "\\u001b[2J": 2}', r"the key '\x1b[2J'"),
    ("[NaN]", "NaN is no JSON number"),
    ("-Infinity", "-Infinity is no JSON number"),
    ("[1, 1e400]", "a number that no float holds"),
    ("[" + "7" * 100_000, "a number of too many digits"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a":' * 100_000, "nested too deeply"),
    ("[" * 101 + "1" + "]" * 101, "nested too deeply"),
    ('{"a": 1,\n "b": }', "Expecting value at line 2, column 7"),
    ("\ufeff{}", "at column 1, a byte order mark"),
    ("", "Expecting value at column 1"),
    ('{"a": "Röntgen"}'.encode("latin-1"), "byte 9 is 0xf6): the file seems to be in another encoding"),
    ('{"a": 1}'.encode("utf-16"), "byte 1 is 0xff): the file seems to be in UTF-16"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=lambda value: repr(value)[:30])
def test_what_is_wrong_is_one_short_line(text, said):
    with pytest.raises(JsonError) as caught:
        from_json(text)
    message = str(caught.value)
    assert said in message
    assert message.isprintable()
    assert len(message) < 250


def test_a_hundred_levels_and_any_number_of_brackets_are_read():
    for text in ("[" * 100 + "1" + "]" * 100, '["[[[[", {"a": "{{{{"}' + ', [], "[{"' * 100 + "]"):
        assert from_json(text) == json.loads(text)
        assert [value for _, value in json_array(text)] == json.loads(text)


def test_right_json_is_read_as_by_the_standard_library():
    text = '{"a": [1, -2.5e3, "\\u00e9\\n", true, null], "b": {}, "c": "' + "x" * 200_000 + '"}'
    assert from_json(text) == from_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", ["[]", " [ ] \n", "[1]", '\n[{"a": [1]},\r\n\n {"b": "]"} , 3]\n', "[[1], 2]"])
def test_an_array_is_read_value_by_value(text):
    assert [value for _, value in json_array(text)] == json.loads(text)


def test_the_values_of_an_array_have_the_lines_that_they_begin_in():
    assert [line for line, _ in json_array('[\n{"a":\n1},\n\n{}, {}\n]')] == [2, 5, 5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{},\n{"a": 1, "a": 2}]', "line 2: JSON that cannot be read (the key a stands twice"),
        ("[1,\n2\n", "line 2: not valid JSON (expected , or the array's end"),
        ("[1,\n2] 3", "line 2: not valid JSON (expected , or the array's end"),
        ("[1 2]", "line 1: not valid JSON (expected , or the array's end"),
        ("[1,\n]", "line 2: not valid JSON (Expecting value at line 2, column 1)"),
        ("[", "line 1: not valid JSON (Expecting value"),
        ("[\n\n" + "[" * 100_000, "line 3: JSON that cannot be read (nested too deeply)"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_array_that_cannot_be_read_is_refused_with_the_line(text, said):
    with pytest.raises(JsonError) as caught:
        list(json_array(text))
    assert str(caught.value).startswith(said)
