"""What most sites have is what a job goes by, worked out by hand."""

from fedrlvr.protocol.answers import ValidateAnswer
from fedrlvr.protocol.records import Envelope, SiteScores
from fedrlvr.server.agreement import agree_on_model

SMALL, LARGE = {"q.lora_A": [2, 4], "q.lora_B": [4, 2]}, {"q.lora_A": [8, 4], "q.lora_B": [4, 8]}
M1, M2, M3, M4 = (digit * 16 for digit in "1234")


def said(**sites) -> dict[str, ValidateAnswer]:
    here, scores = Envelope.here("hash"), SiteScores(test={"A": {"problems": 1.0, "pass@1": 0.0}})
    return {
        site: ValidateAnswer(envelope=here, scores=scores, adapter_spec=spec, base_model=model)
        for site, (model, spec) in sites.items()
    }


def test_nobody_said_anything():
    assert agree_on_model({}) == ({}, {})


def test_all_agree_and_names_are_sorted():
    backwards = dict(reversed(SMALL.items()))
    spec, dissenters = agree_on_model(said(a=(M1, backwards), b=(M1, SMALL)))
    assert list(spec) == ["q.lora_A", "q.lora_B"]
    assert spec == SMALL
    assert dissenters == {}


def test_one_with_another_model_is_named_with_both_values():
    spec, dissenters = agree_on_model(said(a=(M2, SMALL), b=(M1, SMALL), c=(M1, SMALL)))
    assert spec == SMALL
    assert dissenters == {"a": f"base model differs: most sites have {M1}, this one {M2}"}


def test_one_with_other_shapes_is_out_with_both_values():
    spec, dissenters = agree_on_model(said(a=(M1, LARGE), b=(M1, SMALL), c=(M1, SMALL)))
    assert spec == SMALL
    assert dissenters == {"a": "adapter differs: 'q.lora_A' is [2, 4] at most sites, [8, 4] at this one"}


def test_one_with_other_tensors_is_out_with_what_is_missing():
    fewer, more = {"q.lora_A": [2, 4]}, SMALL | {"x": [1, 1]}
    _, dissenters = agree_on_model(said(a=(M1, fewer), b=(M1, SMALL), c=(M1, SMALL), d=(M1, more)))
    assert dissenters["a"] == "adapter differs: 'q.lora_B' is [4, 2] at most sites, missing at this one"
    assert dissenters["d"] == "adapter differs: 'x' is missing at most sites, [1, 1] at this one"


def test_between_equals_the_first_is_taken():
    spec, dissenters = agree_on_model(said(a=(M2, LARGE), b=(M1, SMALL)))
    assert spec == LARGE
    assert list(dissenters) == ["b"]


def test_the_shapes_are_those_of_a_site_with_the_agreed_model():
    """Two with the usual model and one shape each; two more of that shape have a model each of their own. By shapes
    alone LARGE would win, three to two, and nobody with the usual model would be left."""
    answers = said(a=(M1, SMALL), b=(M1, SMALL), c=(M2, LARGE), d=(M3, LARGE), e=(M4, LARGE))
    spec, dissenters = agree_on_model(answers)
    assert spec == SMALL
    assert list(dissenters) == ["c", "d", "e"]
