"""The model card: what a stranger reads of an adapter. Every word in it that is not ours is no markup."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from fedrlvr.peft_folder import Origin
from fedrlvr.report.model_card import Release, code_span, model_card, scores_of
from fedrlvr.report.summary import summarise

ORIGIN = Origin(base_model="Org/Some-Model", fingerprint="0123456789abcdef")
SITES = ["north-clinic", "south-clinic"]


def evaluation(which: str, labels: dict[str, float], number: int = 0) -> dict:
    """Four problems of each label at the first site, none at the other."""
    test = {label: {"problems": 4, "pass@1": score} for label, score in labels.items()}
    scores = {SITES[0]: {"test": test}, SITES[1]: {"test": {}}}
    return {"event": "evaluation", "samples": 2, "which": which, "round": number, "segment": number, "scores": scores}


def events_of(method: str = "pubswap", labels=None) -> list[dict]:
    after = labels or {"A": 0.5, "B": 1.0}
    start = {"event": "start", "method": method, "sites": SITES, "rounds": 2, "segments": 2, "seed": 3}
    return [
        start,
        evaluation("base", dict.fromkeys(after, 0.0)),
        *(evaluation(which, after, number) for number in (0, 1) for which in ("local", "global")),
        {"event": "end"},
    ]


@pytest.fixture
def card(small_job):
    """card(events, release's fields, **job's settings) -> the text of the card after the last round"""

    def make(events=None, release=None, **changes) -> str:
        job = small_job(**changes)
        events = events or events_of(job.method)
        site = SITES[0] if job.method == "local" else None
        scores, samples = scores_of(events, 1, site)
        values = {
            "origin": ORIGIN,
            "license": "unknown",
            "dry_run": False,
            "summary": summarise(events, 1.0),
            "task_package": None,
            "round": 1,
        }
        return model_card(Release(job, **values | {"scores": scores, "samples": samples} | (release or {})))

    return make


def test_the_metadata_is_what_the_hub_reads(card):
    data = ModelCard(card(release={"license": "apache-2.0"})).data.to_dict()
    assert (data["base_model"], data["library_name"], data["license"]) == ("Org/Some-Model", "peft", "apache-2.0")
    assert data["pipeline_tag"] == "text-generation"
    assert {"base_model:adapter:Org/Some-Model", "lora", "fedrlvr"} <= set(data["tags"])


def test_scores_have_numbers_of_problems_and_intervals(card):
    """Wilson's of 0 and of 0.5 of 4, of 4 of 4, and of 6 of 8, by hand."""
    text = card()
    assert "| all | 8 | 0.000 (0.00-0.32) | 0.750 (0.41-0.93) |" in text
    assert "| `A` | 4 | 0.000 (0.00-0.49) | 0.500 (0.15-0.85) |" in text
    assert "| `B` | 4 | 0.000 (0.00-0.49) | 1.000 (0.51-1.00) |" in text
    assert "Completions of each problem: 2 of the base model, 2 of the adapter." in text
    assert "| round | 2 of 2: the last one |" in text


def test_sites_are_counted_and_never_named(card):
    for method in ("pubswap", "local", "fedavg", "centralised"):
        assert "clinic" not in card(method=method)
    assert "| method | `pubswap`: 2 sites, averaged by `svd` |" in card()
    average = {"event": "average", "round": 0, "sites": SITES, "bytes_up": {}}
    both, one = average, average | {"round": 1, "sites": SITES[:1]}
    assert "`pubswap`: 1 to 2 of 2 sites in a round, averaged" in card([*events_of(), both, one])
    assert "`pubswap`: 2 sites, averaged" in card([*events_of(), both, one], {"round": 0})
    assert "the last that was completed" in card(events_of()[:-1])
    assert "| method | `local`: one of 2 sites, not averaged |" in card(method="local")


def test_many_labels_are_cut_and_said(card):
    text = card(events_of(labels={f"label {i:02}": 0.5 for i in range(30)}))
    assert text.count("| `label ") == 20
    assert "10 more labels are left out." in text


def test_an_adapter_that_was_not_measured_has_no_scores(card):
    assert "This adapter was not measured." in card(release={"scores": None})


def test_a_run_that_stopped_or_learnt_nothing_says_so(card):
    assert "did not finish" in card(events_of()[:-1])
    step = {"event": "step", "kind": "private", "site": SITES[0], "completions": 4, "optimizer_steps": 0}
    assert "did not finish" not in card()
    assert "No site has learnt anything" not in card()
    silent = [*events_of(), *({**step, "live_groups": 0.0, "segment": i, "round": 0} for i in range(3))]
    assert "No site has learnt anything" in card(silent)
    assert "dry run" not in card()
    assert "**This was a dry run**" in card(release={"dry_run": True})


@pytest.mark.parametrize(
    ("method", "said", "not_said"),
    [
        ("pubswap", ["sent the change of its adapter", "sent answers to public problems"], ["in one place"]),
        ("fedavg", ["sent the change of its adapter"], ["sent answers to public problems"]),
        ("local", ["one site's own"], ["sent the change of its adapter", "sent answers"]),
        ("centralised", ["All problems were in one place"], ["Private problems and completions to them were not sent"]),
    ],
)
def test_the_card_says_what_travelled(card, method, said, not_said):
    text = card(method=method)
    assert [part for part in said if part not in text] == []
    assert [part for part in not_said if part in text] == []


def test_no_differential_privacy_is_claimed_that_the_lead_cannot_know_of(card):
    assert "claims no differential privacy, and knows no epsilon" in card()
    privacy = {"mode": "dp_grpo", "clip_norm": 0.25, "noise_multiplier": 1.5}
    text = card(privacy=privacy, grpo={"loss_type": "dr_grpo"})
    assert "clip norm 0.25, noise multiplier 1.5" in text
    assert "whoever wrote this card does not know it" in text


@pytest.mark.parametrize(("r", "flag"), [(4, "--max-lora-rank 8\n"), (12, "--max-lora-rank 16\n"), (64, "rank 64\n")])
def test_vllm_is_told_a_rank_that_it_takes(card, r, flag):
    (line,) = [line for line in card(lora={"r": r}).splitlines() if line.startswith("vllm serve")]
    assert f"{line}\n".endswith(flag)
    assert "merge this one first" in card(lora={"r": 1024})


def test_the_prompt_is_the_one_that_the_model_was_trained_with(card):
    examples = [{"problem": "```\n# 1+1", "answer": "\\boxed{2}"}]
    text = card(task="math", prompt={"system_prompt": "You add.", "examples": examples})
    block = next(token for token in MarkdownIt().parse(text) if token.type == "fence" and token.info == "yaml")
    shown = yaml.safe_load(block.content)["prompt"]
    assert shown["system_prompt"] == "You add."
    assert shown["examples"] == examples
    assert "\\boxed{}" in shown["instruction"]


@pytest.mark.parametrize(
    "text", ["a | b", "``", "`<b>`", "<script>", "[x](http://y)", "", "数学", "\\", "*a*", "a\n---\n# b"]
)
def test_no_name_is_markup(card, text):
    """A label or a model's name comes out as the code that it is, on one line and in its own cell."""
    name = text.replace("\n", " ")
    made = card(events_of(labels={text: 0.5, "B": 1.0}), {"origin": Origin(base_model=text)})
    (before, *front), body = made.split("---\n", 2)[1].splitlines(), made.split("---\n", 2)[2]
    assert before.startswith("base_model:")
    assert yaml.safe_load("\n".join([before, *front]))["base_model"] == name
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    rows = sum(token.type == "tr_open" for token in tokens)
    assert rows == 7 + 4  # what it is, and the scores
    assert sum(token.type == "heading_open" for token in tokens) == 7
    inside = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inside} <= {"text", "code_inline", "softbreak", "strong_open", "strong_close"}
    if name:
        assert name in {child.content for child in inside if child.type == "code_inline"}


def test_what_would_steer_a_terminal_is_left_out():
    assert code_span("a\x1b[2J\u202eb") == "`a [2J b`"


def test_scores_of_a_round_that_was_not_measured_are_none():
    assert scores_of(events_of(), 5, None) == (None, 0)
    assert scores_of(events_of(), 1, "another") == (None, 0)
    assert json.dumps(scores_of(events_of(), 1, SITES[0])) == json.dumps(scores_of(events_of(), 1, None))
