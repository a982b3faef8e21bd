"""Presidio as a rule of a site, with a small spaCy model: a real pipeline whose names come from a list."""

import socket
import sys

import pytest
import spacy

from fedrlvr.privacy.answers import Context, filter_responses
from fedrlvr.privacy.overlap import PrivateIndex
from fedrlvr.privacy.pii import Presidio
from fedrlvr.privacy.policy import PresidioRules, ResponseRules, SitePolicy
from fedrlvr.protocol.records import PublicResponse
from fedrlvr.protocol.refused import Refused
from fedrlvr.settings_file import SettingsError, validate_settings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Eleanor Vance"}])
    path = tmp_path_factory.mktemp("spacy") / "model"
    pipeline.to_disk(path)
    return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_an_answer_with_what_presidio_finds_is_dropped(model):
    rules = ResponseRules(presidio=PresidioRules(model=model, entities=("PERSON", "CREDIT_CARD")))
    found = Presidio(rules.presidio)
    context = Context(frozenset("p"), lambda *_: True, PrivateIndex([]), presidio=found)
    texts = ("It is 11.", "Mail 11 to a@b.org or 8.8.8.8")  # the latter are not on the list
    texts += ("Eleanor Vance is 11.", "**Eleanor** **Vance** is 11.", "Pay 4111 1111 1111 1111 for 11.")
    records = [PublicResponse("p", text) for text in texts]
    kept, dropped = filter_responses(records, rules, context)
    assert kept == records[:2]
    assert dropped["pii"] == 3


def test_what_is_missing_is_said_at_the_start(model, tmp_path, monkeypatch):
    with pytest.raises(Refused, match="no spaCy model in "):
        Presidio(PresidioRules(model=tmp_path))
    with pytest.raises(Refused, match=r"PERSONS is not one of .*CREDIT_CARD"):
        Presidio(PresidioRules(model=model, entities=("PERSONS",)))
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)  # as if it were not installed
    with pytest.raises(Refused, match=r"pip install presidio-analyzer"):
        Presidio(PresidioRules(model=model))


def test_its_place_in_the_policy(tmp_path):
    values = {"responses": {"presidio": {"model": "models/en"}}}
    policy = validate_settings(SitePolicy, values, "policy", tmp_path)
    assert policy.responses.presidio.model == tmp_path / "models/en"
    for name in ("URL", "EMAIL_ADDRESS"):
        with pytest.raises(SettingsError, match="asks the network"):
            validate_settings(SitePolicy, {"responses": {"presidio": {"model": "m", "entities": [name]}}}, "policy")
