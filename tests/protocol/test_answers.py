"""What a server refuses to take from a site: anything that is not exactly an answer."""

import math
from string import ascii_lowercase

import pytest

from fedrlvr.config import MOST_STEPS
from fedrlvr.protocol.answers import (
    MAX_FAILURE,
    Failure,
    ProposeAnswer,
    StepsAnswer,
    SubmitAnswer,
    ValidateAnswer,
)
from fedrlvr.protocol.records import Envelope, PublicResponse, StepRecord
from fedrlvr.protocol.refused import Refused
from fedrlvr.protocol.strict import parsed

HERE = Envelope.here("manifest", 1, 7)
NUMBERS = {"reward": 0.5, "live_groups": 1.0, "groups": 2.0, "swap/fraction": 0.1}
STEP = {"kind": "private", "segment": 0, "metrics": NUMBERS}
SCORES = {"test": {"A": {"problems": 4, "pass@1": 0.5, "pass@4": 1.0}}}
SPEC = {"x.lora_A.weight": [2, 3]}
MODEL = "0123456789abcdef"
RESPONSE = {"problem_id": "p1", "text": "#07", "variant": 0}


def read(model, **fields):
    return parsed(model, {"envelope": HERE.model_dump(), "seconds": 2} | fields, "the answer")


def validate(**changes):
    return read(ValidateAnswer, **{"scores": SCORES, "adapter_spec": SPEC, "base_model": MODEL} | changes)


def test_honest_answers_are_understood():
    assert read(StepsAnswer, steps=[STEP]).steps == [StepRecord(kind="private", segment=0, metrics=NUMBERS)]
    assert read(ProposeAnswer, responses=[RESPONSE, RESPONSE]).responses == [PublicResponse("p1", "#07")] * 2
    assert read(ProposeAnswer, responses=[], shares={"p1": 0, "p2": 1.0}).shares == {"p1": 0.0, "p2": 1.0}
    assert read(SubmitAnswer).seconds == 2.0
    answer = validate()
    assert (answer.scores.test["A"]["pass@4"], answer.scores.heldout) == (1.0, None)
    assert (answer.adapter_spec, answer.base_model) == (SPEC, MODEL)


def test_the_payload_is_the_answer_without_what_travels_beside_it():
    assert read(StepsAnswer, steps=[STEP]).payload() == {"steps": [STEP]}
    assert read(ProposeAnswer, responses=[RESPONSE]).payload() == {"responses": [RESPONSE]}
    scored = {"responses": [RESPONSE | {"logprobs": [-0.5, 0.0]}], "shares": {"p1": 0.25}}
    assert read(ProposeAnswer, **scored).payload() == scored
    assert read(SubmitAnswer).payload() == {}
    scores = SCORES | {"unanswered": 0.0, "cut_off": 0.0}
    assert validate().payload() == {"scores": scores, "adapter_spec": SPEC, "base_model": MODEL}


@pytest.mark.parametrize("seconds", [math.inf, math.nan, -1.0, 10**400, "long", None, True])
def test_an_impossible_time_is_refused(seconds):
    with pytest.raises(Refused):
        read(SubmitAnswer, seconds=seconds)


@pytest.mark.parametrize(
    "steps",
    [
        None,
        "text",
        [None],
        [{}],
        [STEP | {"kind": "secret"}],
        [STEP | {"segment": True}],
        [STEP | {"note": "x"}],
        [STEP | {"metrics": NUMBERS | {"reward": math.nan}}],
        [STEP | {"metrics": NUMBERS | {"reward": 10**400}}],
        [STEP | {"metrics": NUMBERS | {"reward": 1e308}}],  # two of them have no sum
        [STEP | {"metrics": NUMBERS | {"reward": -1e308}}],
        [STEP | {"metrics": NUMBERS | {"reward": "0.5"}}],
        [STEP | {"metrics": NUMBERS | {"a patient's name": 1.0}}],
        *([STEP | {"metrics": NUMBERS | {name: 1.0}}] for name in ("event", "time", "round", "site", "self", "kind")),
        [STEP | {"metrics": {k: v for k, v in NUMBERS.items() if k != "reward"}}],
        [STEP | {"metrics": NUMBERS | {"a" * 129: 1.0}}],
        [STEP | {"metrics": NUMBERS | {a + "/" + b: 1.0 for a in ascii_lowercase for b in ascii_lowercase}}],
        [STEP] * (MOST_STEPS + 1),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_steps_that_are_refused(steps):
    with pytest.raises(Refused):
        read(StepsAnswer, steps=steps)


def test_numbers_that_are_not_finite_are_counted_in_place_of_told():
    record = StepRecord.of("public", 3, NUMBERS | {"loss": math.nan, "grad_norm": math.inf, "kl": 1e308})
    assert record.metrics == NUMBERS | {"not_finite": 3.0}


@pytest.mark.parametrize(
    "scores",
    [
        None,
        {},
        {"heldout": {}},
        SCORES | {"private": {}},
        {"test": []},
        {"test": {"A": {"problems": 4}}},
        {"test": {"A": {"problems": 0, "pass@1": 0.5}}},
        {"test": {"A": {"problems": 4, "pass@1": 1.5}}},
        {"test": {"A": {"problems": 4, "pass@1": math.nan}}},
        {"test": {"A": {"problems": 4, "pass@1": 0.5, "note": "text"}}},
        {"test": {"A": {"problems": 4, "pass@1": 0.5, "pass@0": 0.5}}},
        {"test": {"overall": {"problems": 4, "pass@1": 0.5}}},
        {"test": {"A": {"problems": 1e308, "pass@1": 0.5}}},
        {"test": {"A": {"problems": 0.5, "pass@1": 0.5}}},
        {"test": {"\x1b[2J": {"problems": 4, "pass@1": 0.5}}},
        {"test": {"x" * 201: {"problems": 4, "pass@1": 0.5}}},
        SCORES | {"heldout": {}},
        SCORES | {"heldout": {"A": {"problems": 1e308, "pass@1": 0.5}}},
        SCORES | {"heldout": {"A\n": {"problems": 4, "pass@1": 0.5}}},
        {"test": {str(i): {"problems": 1, "pass@1": 0.0} for i in range(1001)}},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_scores_that_are_refused(scores):
    with pytest.raises(Refused):
        validate(scores=scores)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {},
        {"x": [2]},
        {"x": [2, 0]},
        {"x": [2, 2.5]},
        {"x": [2, 9**5000]},
        {"x": "2x2"},
        {"x": [1, 1, 1]},
        {"\x1b[2J": [2, 3]},
        {"x\u202e": [2, 3]},
        {"x" * 201: [2, 3]},
    ],
)
def test_adapter_shapes_that_are_refused(spec):
    with pytest.raises(Refused):
        validate(adapter_spec=spec)


@pytest.mark.parametrize(
    "told", [None, "", MODEL[:-1], MODEL + "0", MODEL + "\n", MODEL.upper(), "patient 12345678", 16]
)
def test_a_base_model_is_named_by_its_fingerprint_and_nothing_else(told):
    with pytest.raises(Refused):
        validate(base_model=told)


@pytest.mark.parametrize(
    "responses",
    [
        None,
        "text",
        {"problem_id": "p1"},
        ["p1"],
        [None],
        [{"problem_id": "p1"}],
        [RESPONSE | {"prompt": "private"}],
        [RESPONSE | {"site": "site-9"}],
        [RESPONSE | {"text": 7}],
        [RESPONSE | {"problem_id": ["p1"]}],
        [RESPONSE | {"problem_id": "p1\x9b"}],
        [RESPONSE | {"variant": 24}],
        [RESPONSE | {"variant": -1}],
        [RESPONSE | {"variant": True}],
        [RESPONSE | {"variant": "0"}],
        [RESPONSE | {"variant": 0.5}],
        [RESPONSE | {"text": "x" * 100_001}],
        [RESPONSE | {"logprobs": -0.5}],
        [RESPONSE | {"logprobs": ["-0.5"]}],
        [RESPONSE | {"logprobs": [True]}],
        [RESPONSE | {"logprobs": [1e-9]}],
        [RESPONSE | {"logprobs": [-math.inf]}],
        [RESPONSE | {"logprobs": [math.nan]}],
        [RESPONSE, RESPONSE | {"note": 1}],
    ],
    ids=lambda value: repr(value)[:40],
)
def test_responses_that_are_refused_whole(responses):
    with pytest.raises(Refused):
        read(ProposeAnswer, responses=responses)


@pytest.mark.parametrize(
    "shares",
    [
        0.5,
        [0.5],
        {"p1": None},
        {"p1": "0.5"},
        {"p1": True},
        {"p1": -1e-9},
        {"p1": 1.1},
        {"p1": math.nan},
        {"p1": math.inf},
        {"p1\x9b": 0.5},
        {str(i): 0.5 for i in range(10_001)},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_shares_that_are_refused(shares):
    with pytest.raises(Refused):
        read(ProposeAnswer, responses=[], shares=shares)


@pytest.mark.parametrize("field", ["protocol", "version", "source", "public_sha256", "round", "segment"])
def test_an_envelope_from_elsewhere_is_refused_with_both_values(field):
    other = HERE.model_copy(update={field: 9 if isinstance(getattr(HERE, field), int) else "other"})
    said = f"{field} differs: the message says {getattr(other, field)!r}, this side has {getattr(HERE, field)!r}"
    with pytest.raises(Refused, match=said):
        HERE.check_same(other)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        (
            "/srv/ward-7/data/private.jsonl, line 2, field answer: missing",
            "private.jsonl, line 2, field answer: missing",
        ),
        ("worker died (exit code -9); see /home/mia/state/worker.log", "worker died (exit code -9); see worker.log"),
        ("cannot open '/a/b/c.json': /a/b/c.json", "cannot open 'c.json': c.json"),
        ("swap/fraction and 1/2 stay as they are", "swap/fraction and 1/2 stay as they are"),
    ],
)
def test_folders_of_a_site_stay_at_the_site(text, sent):
    assert Failure.of(text).reason == sent


def test_what_a_refusal_quotes_cannot_steer_a_terminal():
    with pytest.raises(Refused) as caught:
        validate(scores={"test": {"\x1b[2J\nerror: none\u202e": {"problems": 4, "pass@1": 2}}})
    assert str(caught.value).startswith("the answer, scores.test. [2J error: none")
    assert str(caught.value).isprintable()


def test_a_failure_is_one_line_however_it_came():
    reason = "\x1b[2Jno\r\n  such file\u2028"
    assert Failure.of(reason + "\ud800").reason == "[2Jno such file"  # half a surrogate pair: of a file's odd name
    assert Failure.model_validate({"reason": reason}).reason == "[2Jno such file"


def test_a_failure_is_not_too_long():
    assert len(Failure.of("x" * 9999).reason) == MAX_FAILURE


@pytest.mark.parametrize(
    "text",
    [
        '{"seconds": ' + "7" * 100_000 + "}",
        '{"envelope": ' + "[" * 100_000,
        '{"envelope": ' * 100_000,
        '{"envelope": {"' + "k" * 100_000 + '": 1}}',
    ],
    ids=lambda text: text[:20],
)
def test_deep_or_long_json_is_refused_in_one_short_line(text):
    with pytest.raises(Refused) as caught:
        parsed(StepsAnswer, text, "the answer")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 500
