"""What the rules for answers compare with: problem files, plain texts, and what a line may not be."""

import json

import pytest

from fedrlvr.data.problems import ProblemFileError
from fedrlvr.privacy.policy import ResponseRules
from fedrlvr.protocol.refused import Refused
from fedrlvr.site.private_texts import private_index, site_names, texts_in

STRICT = ResponseRules(ngram=5, rare_words=3)
SECRET = "the widowed beekeeper from Vaduz fainted on a tower"


@pytest.fixture
def file(tmp_path):
    def write(name: str, *lines: dict):
        path = tmp_path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


def test_problems_and_plain_texts_in_one_file(file):
    path = file("p", {"text": SECRET, "note": 1}, {"id": "x", "prompt": "Who?", "answer": "a gold nobody checks"})
    assert [problem.prompt for problem in texts_in(path)] == [SECRET, "Who?"]
    index = private_index(STRICT, [path], [])
    assert index.find(SECRET).sequences
    assert index.find("a gold nobody checks").sequences


def test_public_files_and_the_policys_public_texts_do_not_count(file):
    private, other = file("private", {"text": SECRET}), file("other", {"text": f"{SECRET}. A story."})
    for rules, public in ((STRICT, [other]), (STRICT.model_copy(update={"public_texts": (other,)}), [])):
        found = private_index(rules, [private], public).find(SECRET)
        assert (found.sequences, found.rare) == (0, 0)


@pytest.mark.parametrize("rules", [ResponseRules(), STRICT.model_copy(update={"share": False})])
def test_nothing_is_read_where_nothing_is_compared(rules, tmp_path):
    assert not private_index(rules, [tmp_path / "missing"], []).find(SECRET).sequences


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"text": 7}, "line 1, field text: expected text, found int"),
        ([SECRET], "line 1: expected a JSON object, found list"),
        ({"txt": SECRET}, "line 1, field txt: unknown"),
    ],
)
def test_a_line_that_is_neither_names_no_content(file, line, said):
    with pytest.raises(ProblemFileError) as error:
        private_index(STRICT, [file("p", line)], [])
    assert said in str(error.value)
    assert "beekeeper" not in str(error.value)


def test_a_list_of_names_that_is_no_text(file, tmp_path):
    (tmp_path / "names").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="cannot be read as text"):
        site_names(ResponseRules(names=tmp_path / "names"))
    assert site_names(ResponseRules()) is None
