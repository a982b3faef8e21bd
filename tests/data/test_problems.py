"""Problem files: what is refused names file, line and field; what is written is read back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedrlvr.data.problems import (
    ProblemFileError,
    content_hash,
    manifest_hash,
    parse_problem,
    problem_hash,
    read_measured,
    read_problems,
    task_in,
    write_problems,
)
from fedrlvr.tasks import TASKS
from fedrlvr.types import Message, Problem

GOOD = {"id": "a", "prompt": "A3725?", "answer": "07", "label": "A"}


def read(folder: Path, *lines, task="protocol") -> list[Problem]:
    """Write lines (records or raw text) to `site.jsonl` and read them as problems."""
    path = folder / "site.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return read_problems(path, TASKS[task])


def refusal(folder: Path, *lines, task="protocol") -> str:
    with pytest.raises(ProblemFileError) as caught:
        read(folder, *lines, task=task)
    assert str(folder / "site.jsonl") in str(caught.value)
    return str(caught.value)


def test_a_good_file_is_read_in_order_and_blank_lines_do_not_matter(tmp_path):
    second = GOOD | {"id": "b", "prompt": "B3725?", "answer": "43", "label": "B"}
    assert read(tmp_path, GOOD, "", "   ", second) == [Problem(**GOOD), Problem(**second)]


def test_a_byte_order_mark_and_other_line_ends_do_not_matter(tmp_path):
    second = GOOD | {"id": "b", "prompt": "B3725?", "answer": "43", "label": "B"}
    lines = ["\ufeff" + json.dumps(GOOD) + "\r", "\r", json.dumps(second) + "\r"]
    assert read(tmp_path, *lines) == [Problem(**GOOD), Problem(**second)]


def test_a_label_may_be_left_out(tmp_path):
    (problem,) = read(tmp_path, {"id": "a", "prompt": "how many?", "answer": "3"}, task="arithmetic")
    assert problem.label == ""


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"id": "b", }', ["not valid JSON", "column"]),
        ("not json", ["not valid JSON"]),
        ("\ufeff" + json.dumps(GOOD), ["JSON"]),
        ("[" * 200_000, ["JSON"]),  # deeper than the parser recurses
        ('{"id": ' + "1" * 5000 + "}", ["a number of too many digits"]),
        (json.dumps(GOOD)[:-1] + ', "answer": "08"}', ["the key answer stands twice in one object"]),
        (json.dumps(GOOD)[:-1] + ', "meta": {"x": NaN}}', ["NaN is no JSON number"]),
        ("[1, 2]", ["expected a JSON object, found list"]),
        ('"text"', ["expected a JSON object, found str"]),
        ("null", ["expected a JSON object, found NoneType"]),
        *(
            ({k: v for k, v in GOOD.items() if k != name}, [f"field {name}", "missing"])
            for name in ("id", "prompt", "answer")
        ),
        *((GOOD | {name: 7}, [f"field {name}", "expected text, found int"]) for name in GOOD),
        (GOOD | {"id": None}, ["field id", "expected text, found NoneType"]),
        *((GOOD | {name: "  "}, [f"field {name}", "empty"]) for name in ("id", "prompt", "answer")),
        (GOOD | {"id": "b", "solution": "x"}, ["field solution", "unknown", "prompt, messages, answer"]),
        (GOOD | {"id": "b", "answer": "08"}, ["field answer", "the gold does not score 1.0"]),
        (GOOD | {"id": "b", "answer": "7"}, ["field answer"]),
        (GOOD | {"id": "b", "prompt": "A372?"}, ["field prompt", "not a protocol problem"]),
        (GOOD | {"id": "b", "prompt": "what is 2 + 2?"}, ["field prompt", "not a protocol problem"]),
        (GOOD | {"id": "b", "label": "Z"}, ["field label"]),
        (GOOD | {"id": "b", "label": ""}, ["field label"]),
        (GOOD | {"id": "b", "prompt": "B3725?"}, ["field"]),  # the prompt says B, the label A
        (GOOD | {"id": "b", "label": "\x1b[2JA"}, ["field label", "character 1 is a control"]),
        (GOOD | {"id": "b", "label": "A\nB"}, ["field label", "character 2 is a control"]),
        (GOOD | {"id": "b", "label": "x" * 201}, ["field label", "201 characters long, expected at most 200"]),
        (GOOD | {"id": "b", "label": "overall"}, ["field label", "results of all labels together are called overall"]),
        (GOOD | {"id": "b\u202e"}, ["field id", "character 2 is a control"]),
        (GOOD | {"id": "\ud800"}, ["field id"]),  # half a surrogate pair: no text that could be hashed or sent
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_line_is_refused_with_file_line_and_field(tmp_path, bad, said):
    """The bad line is line 3, after a good line and a blank one."""
    message = refusal(tmp_path, GOOD | {"id": "first"}, "", bad)
    assert "line 3" in message
    assert all(words in message for words in said), message


UNUSUAL = ["Counting & Probability", "Präalgebra", "数学", "[/foo]", "$\\frac{$", "all", "Overall", "none", "x" * 200]


@pytest.mark.parametrize("label", UNUSUAL)
def test_an_unusual_label_is_a_label(tmp_path, label):
    (problem,) = read(tmp_path, {"id": "a", "prompt": "1+1?", "answer": "2", "label": label}, task="arithmetic")
    assert problem.label == label


def test_results_are_told_of_a_thousand_labels_and_no_more(tmp_path):
    lines = [json.dumps({"id": str(n), "prompt": "?", "answer": "2", "label": str(n)}) for n in range(1001)]
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(lines[:1000]))
    assert len(read_measured(path, TASKS["arithmetic"])) == 1000
    path.write_text("\n".join(lines))
    assert len(read_problems(path, TASKS["arithmetic"])) == 1001  # nobody is told of private problems' labels
    with pytest.raises(ProblemFileError, match=r"test.jsonl: has 1,001 labels; results are told of at most 1,000"):
        read_measured(path, TASKS["arithmetic"])


def test_a_repeated_id_is_refused(tmp_path):
    message = refusal(tmp_path, GOOD, GOOD | {"answer": "08"})
    assert "line 2, field id: is on an earlier line" in message


@pytest.mark.parametrize("answer", ["\\frac{1}{2", "4}", "1" * 301])
def test_a_gold_answer_that_its_own_verifier_cannot_check_is_refused(tmp_path, answer):
    message = refusal(tmp_path, {"id": "a", "prompt": "how many?", "answer": answer}, task="arithmetic")
    assert "line 1, field answer" in message


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_a_file_without_problems_is_refused(tmp_path, lines):
    assert "holds no problem" in refusal(tmp_path, *lines)


def test_a_file_that_is_missing_or_a_folder_or_not_utf8_is_refused_by_name(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(GOOD).encode() + b"\n\xe9\xff")
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("latin.jsonl", "folder.jsonl", "missing.jsonl"):
        with pytest.raises(ProblemFileError, match=rf"{name}.*cannot be read"):
            read_problems(tmp_path / name, TASKS["protocol"])


# Printable text that is not the one word which results use themselves.
LABELS = st.text(max_size=8).filter(lambda label: label.isprintable() and label != "overall")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), LABELS), min_size=1, max_size=4))
def test_whatever_is_written_is_read_back(tmp_path, texts):
    path = tmp_path / "deep" / "er" / "round.jsonl"
    written = [Problem(f"id {i}", f"?{prompt}", "1/2", label) for i, (prompt, label) in enumerate(texts)]
    write_problems(path, written)
    assert read_problems(path, TASKS["arithmetic"]) == written


@pytest.mark.parametrize("character", ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", '"', "\\", "é"])
def test_characters_that_splitlines_takes_for_line_ends_survive(tmp_path, character):
    written = [Problem("a", f"one{character}two", "3", "x"), Problem("b", "three", "4")]
    write_problems(tmp_path / "lines.jsonl", written)
    assert read_problems(tmp_path / "lines.jsonl", TASKS["arithmetic"]) == written


def test_the_manifest_hash_changes_with_every_field_and_with_the_order():
    one, two = Problem("a", "p", "1", "x"), Problem("b", "q", "2", "y")
    sets = [
        [one, two],
        [two, one],
        [one],
        [one, two, two],
        *([one, replace(two, **{field: "changed"})] for field in ("id", "prompt", "answer", "label")),
    ]
    assert len({manifest_hash(problems) for problems in sets}) == len(sets)
    assert manifest_hash([one, two]) == manifest_hash((replace(one), replace(two)))


def test_no_error_quotes_the_file(tmp_path):
    """A site's errors reach the server."""
    secret = "PATIENT-4711"
    for line in (
        GOOD | {"id": secret, "prompt": secret},
        GOOD | {"answer": secret},
        GOOD | {"label": secret},
        GOOD | {"answer": [secret]},
        json.dumps(GOOD | {"id": secret})[:-3],
    ):
        assert secret not in refusal(tmp_path, line)
    assert secret not in refusal(tmp_path, GOOD | {"id": secret}, GOOD | {"id": secret})


CHOICE = {"id": "c", "prompt": "which?", "answer": "B", "choices": ["one", "two"], "meta": {"year": 2020}}
TALK = {"id": "t", "answer": "B", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]}


def test_two_wrong_options_may_be_the_same(tmp_path):
    """In 13 of MedMCQA's 2,816 validation rows they are. Neither is ever taken for the right one."""
    (problem,) = read(tmp_path, CHOICE | {"choices": ["4.6", "4.61", " 4.6"]}, task="choice")
    verify = TASKS["choice"].verify
    rewards = {box: verify(problem, f"\\boxed{{{box}}}").reward for box in ("B", "4.61", "A", "C", "4.6")}
    assert rewards == {"B": 1, "4.61": 1, "A": 0, "C": 0, "4.6": 0}


def test_choices_messages_and_notes_are_read_and_written_back(tmp_path):
    first, second = (parse_problem(record, "here") for record in (CHOICE, TALK))
    assert first.choices == ("one", "two")
    assert second.messages == (Message("system", "s"), Message("user", "q"))
    write_problems(tmp_path / "both.jsonl", [first, second])
    assert [json.loads(line) for line in (tmp_path / "both.jsonl").read_text().splitlines()] == [CHOICE, TALK]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (CHOICE | {"choices": "one"}, "field choices: expected a list of texts, found str"),
        (CHOICE | {"choices": ["one"]}, "field choices: expected 2 to 26 options, found 1"),
        (CHOICE | {"choices": [str(i) for i in range(27)]}, "field choices: expected 2 to 26 options, found 27"),
        (CHOICE | {"choices": ["one", 2]}, "field choices, option 2: expected text, found int"),
        (CHOICE | {"choices": ["one", " "]}, "field choices, option 2: empty"),
        *(
            (CHOICE | {"choices": [one, other]}, "field choices: the right option and another are the same")
            for one, other in (
                ("one", "one"),
                ("one", " one "),
                ("5 mg", "5\u00a0mg"),
                ("5 mg", "5mg"),
                ("in  vitro", "in vi\u00adtro\u200b"),
            )
        ),
        (CHOICE | {"meta": "2020"}, "field meta: expected an object, found str"),
        (CHOICE | TALK, "field messages: a problem has a prompt or messages, not both"),
        (TALK | {"messages": []}, "field messages: expected a list of at least one message"),
        (TALK | {"messages": "q"}, "field messages: expected a list of at least one message"),
        (TALK | {"messages": ["q"]}, "message 1: expected an object with role and content"),
        (TALK | {"messages": [{"role": "user"}]}, "message 1: expected an object with role and content"),
        (TALK | {"messages": [{"role": "boss", "content": "q"}]}, "message 1: role must be one of system, user, assis"),
        (TALK | {"messages": [{"role": "user", "content": ""}]}, "message 1, content: empty"),
        (TALK | {"messages": [{"role": "user", "content": "\ud800"}]}, "half a surrogate pair"),
        (TALK | {"messages": [{"role": "system", "content": "q"}]}, "the last message must be the user's"),
    ],
)
def test_ill_formed_choices_and_messages_are_refused(bad, said):
    with pytest.raises(ProblemFileError, match=f"^here, .*{said}"):
        parse_problem(bad, "here")


def test_options_that_only_look_alike_are_options():
    choices = ["1 1/2", "11/2", "10\u00b2", "102", "x.", "x"]
    assert parse_problem(CHOICE | {"choices": choices}, "here").choices == tuple(choices)


def test_notes_as_deep_as_they_may_be_are_written_and_hashed(tmp_path):
    notes = json.loads('{"a": ' * 98 + "1" + "}" * 98)
    (problem,) = read(tmp_path, GOOD | {"meta": notes})
    write_problems(tmp_path / "again.jsonl", [problem])
    (again,) = read_problems(tmp_path / "again.jsonl", TASKS["protocol"])
    assert (again.meta, problem_hash(again)) == (notes, problem_hash(problem))
    assert "nested too deeply" in refusal(tmp_path, GOOD | {"meta": {"a": {"a": notes}}})


def test_another_tasks_problem_is_refused(tmp_path):
    assert "field task: this problem is for another task than protocol" in refusal(tmp_path, GOOD | {"task": "choice"})
    assert read(tmp_path, GOOD | {"task": "protocol"})[0].task == "protocol"


def test_a_file_may_say_its_task(tmp_path):
    write_problems(tmp_path / "a.jsonl", [parse_problem(CHOICE | {"task": "choice"}, "here")])
    write_problems(tmp_path / "b.jsonl", [parse_problem(CHOICE, "here")])
    assert task_in(tmp_path / "a.jsonl") == "choice"
    assert task_in(tmp_path / "b.jsonl") is None


@pytest.mark.parametrize(
    "changed", [{"answer": "A"}, {"choices": ["two", "one"]}, {"meta": {"year": 2021}}, {"id": "d"}]
)
def test_any_edit_of_a_problem_changes_its_hash(changed):
    before, after = (parse_problem(record, "here") for record in (CHOICE, CHOICE | changed))
    assert problem_hash(before) != problem_hash(after)
    assert manifest_hash([before]) != manifest_hash([after])


def test_the_hash_of_a_files_content_is_of_what_is_asked_and_what_is_right(tmp_path):
    """Not of order, ids, labels, notes, repeats, empty fields or layout."""

    def hashed(*lines: str) -> str:
        (tmp_path / "file.jsonl").write_text("\n".join(lines))
        return content_hash(tmp_path / "file.jsonl")

    one, two = '{"id": "a", "prompt": "1+1", "answer": "2"}', '{"id": "b", "prompt": "2+2", "answer": "4"}'
    same = hashed(one, two)
    assert hashed(two, "", one, "") == same
    assert (
        hashed('{"answer":"2","id":"other","prompt":"1+1","label":"x","meta":{"by": 1},"choices":[]}', two, two) == same
    )
    assert hashed(one, two.replace("4", "5")) != same
    assert hashed(one, two.replace("2+2", "2 + 2")) != same
    assert hashed(one) != same
    with pytest.raises(ProblemFileError, match="line 2: not valid JSON"):
        hashed(one, "{")
    with pytest.raises(ProblemFileError, match="cannot be read"):
        content_hash(tmp_path)
