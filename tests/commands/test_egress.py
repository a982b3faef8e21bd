"""`fedrlvr egress` as it is called: what left, and what would."""

import hashlib
import json
import os

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.runs import SHIPPED, shipped_policy

from fedrlvr.cli import main
from fedrlvr.privacy.accountant import ExampleNoise, SiteNoise, bounds
from fedrlvr.privacy.egress_log import EgressLog
from fedrlvr.privacy.ledger import Ledger, Source

PRESET = {
    "task": "protocol",
    "model": "tiny",
    "grpo": {"num_generations": 8, "prompts_per_step": 2, "max_completion_length": 20},
    "exchange": {"prompts_per_step": 8},
    "evaluation": {"samples": 1},
}


@pytest.fixture
def site(site_files, tmp_path, capsys, monkeypatch):
    """`site(*arguments)` -> (exit code, standard output, standard error), at a site with a policy."""
    _, configs = site_files({"site-1": ("A", "B", "C", "D")})
    monkeypatch.setenv("COLUMNS", "200")
    local = tmp_path / "local"
    local.mkdir()
    config = configs["site-1"].model_dump(mode="json") | {"policy": "policy.yaml"}
    (local / "fedrlvr.yaml").write_text(yaml.safe_dump(config))
    (local / "policy.yaml").write_text(yaml.safe_dump(shipped_policy("clinical")))
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(PRESET))

    def call(action: str, *arguments: str) -> tuple[int, str, str]:
        code = main(["egress", action, "--site-config", str(local / "fedrlvr.yaml"), *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    call.local, call.preset = local, str(tmp_path / "preset.yaml")
    call.log = EgressLog(local / "fedrlvr-egress.jsonl")
    call.ledger = Ledger(local / "fedrlvr-ledger.jsonl", "ward-7")
    return call


def write(log: EgressLog, kind: str, count: int, **entry) -> None:
    place = {"site": "ward-7", "job": entry.pop("job", "job-1"), "kind": kind}
    with log.written(**place) as line:
        line |= {"count": count, "bytes": 10 * count, "sha256": "0", "rules": {}} | entry


def test_a_summary_of_log_and_ledger(site):
    write(site.log, "responses", 3, rules={"overlap": 2, "length": 0})
    write(site.log, "responses", 4, rules={"overlap": 1})
    site.log.refused("tensor x is missing (1 in all)", site="ward-7", job="job-1", kind="adapter")
    site.ledger.charge(Source("tiny"), "job-1", SiteNoise(2.0, 4), 1e-5, None)
    site.ledger.charge(Source("tiny"), "job-1", ExampleNoise(0.1, 1.0, 1, 5), 1e-5, None)
    code, out, _ = site("show")
    assert code == 0
    assert "3 messages" in out
    (row,) = [line for line in out.splitlines() if "responses" in line]
    assert row.split() == ["responses", "2", "0", "7", "70", "overlap", "3"]
    assert "refused 1 x adapter: tensor x is missing (1 in all)" in out
    assert "tiny: epsilon 4.377 (no limit) at delta 1e-05; unit: one site" in out
    assert "unit: one private problem" in out


def test_what_the_log_quotes_is_shown_as_it_is(site):
    """A job's name and a reason may come from elsewhere."""
    write(site.log, "[/red]", 1, job="[bold]\x1b[2Jjob", rules={"[/x]": 1})
    site.log.refused("no\nledger: /elsewhere\x9b [/x]", site="ward-7", job="j", kind="adapter")
    code, out, _ = site("show")
    assert code == 0
    assert "\njob [bold] [2Jjob\n" in out
    assert "\n [/red] " in out
    assert " [/x] 1" in out
    assert "refused 1 x adapter: no ledger: /elsewhere [/x]\n" in out


def test_at_80_columns_nothing_is_cut_and_every_error_has_its_reason(site, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    jobs = [f"{number}e2c1a7b-93f4-4c41-8d5e-0a1b2c3d4e5f" for number in (4, 5)]
    rules = {"findings_told": 1200, "findings_kept_here": 12, "private_steps": 3}
    write(site.log, "metrics", 123_456, job=jobs[0], rules=rules)
    write(site.log, "responses", 99_999_999, job=jobs[0], rules={"private_drops": 1_000_000, "overlap": 2})
    for reason in ("worker died", "worker died", "out of memory " * 20, ""):
        write(site.log, "error", 1, job=jobs[1], task="train", reason=reason)
    site.log.refused("tensor x is missing", site="ward-7", job=jobs[1], kind="adapter")
    _, out, _ = site("show")
    assert {line for line in out.splitlines() if len(line) > 80} <= {f"log: {site.log.path}"}
    assert "…" not in out
    first, second = out.split(f"job {jobs[1]}\n")
    for said in (f"job {jobs[0]}\n", *(f"{name} {count}" for name, count in rules.items()), "private_drops 1000000"):
        assert said in first
    assert "responses 1 0 99,999,999 999,999,990 private_drops 1000000 overlap 2" in " ".join(first.split())
    for said in ("error 2 x train: worker died\n", "error 1 x train: the log does not say why\n"):
        assert said in second
    assert " ".join(["out of memory"] * 20) in " ".join(second.split())
    assert "refused 1 x adapter: tensor x is missing\n" in second
    assert "things, bytes: what those that left held" in second


def test_nothing_yet(site):
    code, out, _ = site("show")
    assert code == 0
    assert "nothing has left" in out
    assert "ledger" not in out.split("log:")[1].split("\n", 1)[1]


def test_a_ledger_older_than_the_log_is_an_error(site):
    site.ledger.charge(Source("tiny"), "job-1", SiteNoise(2.0), 1e-5, None)
    write(site.log, "adapter", 2, ledger=site.ledger.last_hash())
    assert site("show")[0] == 0
    for path in site.local.glob("fedrlvr-ledger.jsonl*"):
        path.unlink()
    code, out, _ = site("show")
    assert code == 1
    assert "lines are missing that the egress log has seen" in out


def test_a_dry_run_shows_exactly_what_would_leave_and_touches_nothing(site, tmp_path):
    files = set(site.local.iterdir())
    code, out, err = site("dry-run", "--config", site.preset, "--full", str(tmp_path / "full"))
    assert (code, err) == (0, "")
    assert set(site.local.iterdir()) == files
    full = {path.name: path for path in (tmp_path / "full").iterdir()}
    assert sorted(full) == [
        "0-validate-metrics.json",
        "1-train-metrics.json",
        "2-propose-responses.json",
        "3-swap-metrics.json",
        "4-submit-adapter.safetensors",
    ]
    for path in full.values():
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:12] in out
    assert list(json.loads(full["0-validate-metrics.json"].read_text())["scores"]["heldout"]) == ["all"]
    assert json.loads(full["1-train-metrics.json"].read_text()) == {"steps": []}  # numbers of private steps stay
    assert "private_steps 1" in out
    answers = json.loads(full["2-propose-responses.json"].read_text())["responses"]
    assert answers
    assert all(set(answer) == {"problem_id", "text", "variant"} for answer in answers)
    assert any("lora_A" in name for name in load_file(full["4-submit-adapter.safetensors"]))


def test_a_dry_run_says_why_a_job_would_not_be_let_in(site):
    (site.local / "policy.yaml").write_text(yaml.safe_dump(shipped_policy("sealed")))
    code, out, _ = site("dry-run", "--config", site.preset)
    assert code == 1
    assert "this site requires privacy.mode: dp_grpo; the job has privacy.mode: none" in out
    assert not site.ledger.path.exists()


def test_a_dry_run_says_what_the_worker_cannot_do(site):
    code, out, _ = site("dry-run", "--config", site.preset, "--set", "lora.target_modules=[no_such_proj]")
    assert code == 1
    assert out.startswith(
        "nothing would leave this site for this job: ValueError: lora.target_modules: no linear layer of "
    )
    assert not site.ledger.path.exists()


def test_a_dry_run_takes_only_an_adapter_of_the_sites_model(site, tmp_path):
    file = tmp_path / "adapter_model.safetensors"
    save_file({"x": torch.zeros(2)}, file)
    code, out, _ = site("dry-run", "--config", site.preset, "--adapter", str(tmp_path))
    assert code == 1
    assert "nothing would leave this site for this job: " in out
    assert "is missing" in out
    file.write_bytes(b"no tensors")
    code, _, err = site("dry-run", "--config", site.preset, "--adapter", str(tmp_path))
    assert (code, err.partition(" (")[0]) == (2, f"error: {file}: not a safetensors file")


def test_a_dry_run_under_differential_privacy_spends_nothing(site):
    (site.local / "policy.yaml").write_text(yaml.safe_dump(shipped_policy("sealed")))
    noise = ["--set", "privacy={mode: dp_grpo, noise_multiplier: 2.0}", "--set", "federation.rounds=1"]
    code, out, _ = site("dry-run", "--config", site.preset, *noise)
    assert code == 0
    # 12 private steps of 2 out of 16 problems, at noise 2.
    cost = bounds([ExampleNoise(2 / 16, 2.0, 1, 12)], 1e-5)
    assert cost["PLD"] < cost["RDP"]
    assert (
        f"the whole job would bring tiny to epsilon {cost['PLD']:.4g} of 8 at delta 1e-05 (RDP {cost['RDP']:.4g}, "
        f"PLD {cost['PLD']:.4g}); unit: one private problem"
    ) in out
    assert "warning" not in out
    assert not site.ledger.path.exists()
    code, out, _ = site("dry-run", "--config", site.preset, *noise, "--set", "privacy.noise_multiplier=0.1")
    assert code == 1
    assert "its limit is 8" in out


def test_a_delta_too_large_for_so_few_problems_is_a_warning(site):
    """16 private problems: 1/16 is 0.0625."""
    sealed = shipped_policy("sealed")
    sealed["training"]["delta"] = 0.0625
    (site.local / "policy.yaml").write_text(yaml.safe_dump(sealed))
    noise = ["--set", "privacy={mode: dp_grpo, noise_multiplier: 2.0}", "--set", "federation.rounds=1"]
    for said in (site("show")[1], site("dry-run", "--config", site.preset, *noise)[1]):
        assert "warning: training.delta 0.0625 is not below 1 / 16 private problems" in said


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda site: (site.local / "policy.yaml").write_text("response: {share: false}"), "did you mean responses?"),
        (lambda site: (site.local / "policy.yaml").unlink(), "policy.yaml: cannot be read"),
        (
            lambda site: (site.local / "fedrlvr-egress.jsonl").write_text("hello\n"),
            "line 1 is not as it was written",
        ),
        (
            lambda site: (site.local / "fedrlvr.yaml").write_text(
                (site.local / "fedrlvr.yaml").read_text().replace("policy: policy.yaml\n", "")
            ),
            "names no policy",
        ),
    ],
)
def test_bad_input_is_named(site, spoil, said):
    spoil(site)
    code, _, err = site("show")
    assert code == 2
    assert said in err


def test_a_folder_that_is_there_is_not_written_into(site, tmp_path):
    code, _, err = site("dry-run", "--config", site.preset, "--full", str(tmp_path))
    assert code == 2
    assert str(tmp_path) in err


@pytest.fixture
def trial(tmp_path, capsys):
    """`trial(answers, *arguments)` -> (exit code, the lines written, standard error), under the clinical policy."""
    private = [
        {"id": "x1", "prompt": "The widowed beekeeper from Vaduz fainted on a tower", "answer": "B", "task": "choice"},
        {"text": "Record 80392147, seen twice"},
    ]
    private[0] |= {"choices": ["gout", "anthrax"]}
    (tmp_path / "private.jsonl").write_text("".join(json.dumps(line) + "\n" for line in private))

    def call(answers: list[dict], *arguments: str) -> tuple[int, list[dict], str]:
        (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in answers))
        files = ["--private", str(tmp_path / "private.jsonl"), "--input", str(tmp_path / "answers.jsonl")]
        code = main(["egress", "try", "--policy", str(SHIPPED / "clinical.yaml"), *files, *arguments])
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return call


def test_trying_the_rules_for_answers(trial):
    texts = ["The widowed beekeeper from Vaduz has gout.", "It is 80 39 21 47.", "It is 1\u200b1.", "It is 11."]
    code, lines, err = trial([{"text": text, "note": 7} for text in texts])
    assert code == 0
    assert [line["rule"] for line in lines] == ["overlap", "identifier", "unicode", None]
    assert lines[3] == {"text": "It is 11.", "note": 7, "leaves": True, "rule": None}
    assert err == "1 of 4 answers would leave; dropped: overlap 1, identifier 1, unicode 1\n"


def test_answers_are_tried_one_by_one_or_as_one_exchange(trial):
    answers = [{"text": f"{number}", "problem_id": "p1"} for number in (1, 1, 2, 3, 4, 5)]
    assert all(line["leaves"] for line in trial(answers)[1])
    lines = trial(answers, "--together")[1]
    assert [line["rule"] for line in lines] == [None, "duplicate", None, None, None, "per_prompt"]


def test_trying_with_public_texts_and_the_verifier(trial, tmp_path):
    public = tmp_path / "public.jsonl"
    public.write_text(json.dumps({"id": "p1", "prompt": "Did the widowed beekeeper from Vaduz faint?", "answer": "7"}))
    said = "The widowed beekeeper from Vaduz: \\boxed{%s}"
    answers = [{"text": said % number, "problem_id": "p1"} for number in (7, 8)]
    assert [line["rule"] for line in trial(answers)[1]] == ["overlap", "overlap"]
    assert [line["rule"] for line in trial(answers, "--public", str(public))[1]] == [None, None]
    verified = trial(answers, "--public", str(public), "--verify", "--task", "math")[1]
    assert [line["rule"] for line in verified] == [None, "verified"]


@pytest.mark.parametrize(
    ("answers", "arguments", "said"),
    [
        ([{"answer": "x"}], [], "answers.jsonl, line 1: expected a JSON object with a text in field text"),
        ([{"text": "x", "problem_id": 7}], [], "line 1, field problem_id: expected text"),
        ([{"text": "x"}], ["--verify"], "--verify: give --task and --public"),
        ([{"text": "x"}], ["--output", "{input}"], "is also the input, which would be lost"),
        ([{"text": "x"}], ["--private", "/nowhere"], "/nowhere: cannot be read"),
        ([{"text": "x"}], ["--private", os.devnull], "holds no text, so every answer would seem harmless"),
        ([{"text": "half a pair \ud800"}], [], "answers.jsonl, line 1: no site could send this"),
    ],
)
def test_what_cannot_be_tried_is_named(trial, tmp_path, answers, arguments, said):
    code, lines, err = trial(answers, *(part.format(input=tmp_path / "answers.jsonl") for part in arguments))
    assert (code, lines) == (2, [])
    assert said in err
