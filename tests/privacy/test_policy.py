"""A site's policy: the shipped ones load, and what cannot be kept or is misspelt is an error."""

from pathlib import Path

import pytest
import yaml

from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.settings_file import SettingsError, load_settings

SHIPPED = Path(__file__).parents[2] / "app_configs" / "site"


@pytest.fixture
def policy_of(tmp_path):
    def load(**values) -> SitePolicy:
        path = tmp_path / "policy.yaml"
        path.write_text(yaml.safe_dump(values))
        return load_settings(SitePolicy, path)

    return load


@pytest.mark.parametrize(
    "path", sorted({*SHIPPED.glob("*.yaml")} - {SHIPPED / "fedrlvr.yaml"}), ids=lambda path: path.stem
)
def test_every_shipped_policy_loads_and_says_why(path):
    policy = load_settings(SitePolicy, path)
    assert path.read_text().startswith("# ")
    assert {"ledger", "log"} <= set(yaml.safe_load(path.read_text()))
    assert policy.log.parent == path.parent


def test_the_shipped_policies_become_stricter():
    policies = [load_settings(SitePolicy, SHIPPED / f"{name}.yaml") for name in ("open", "clinical", "sealed")]
    assert [policy.adapters.clip_norm is None for policy in policies] == [True, False, False]
    assert [policy.responses.ngram > 0 or not policy.responses.share for policy in policies] == [False, True, True]
    assert [policy.metrics.private_steps for policy in policies] == [True, False, False]
    assert [policy.metrics.public_shares for policy in policies] == [True, False, False]
    assert [policy.responses.logprobs for policy in policies] == [True, False, False]
    assert [policy.training.require for policy in policies] == ["none", "none", "dp_grpo"]


DP = {"require": "dp_grpo", "max_epsilon": 8}
QUIET = {"private_steps": False, "heldout": "none", "error_text": False}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"adapters": {"clipnorm": 1.0}}, "adapters.clipnorm: unknown setting; did you mean adapters.clip_norm?"),
        ({"response": {"share": False}}, "response: unknown setting; did you mean responses?"),
        ({"responses": {"pii": ["e-mail"]}}, "responses.pii"),
        ({"responses": {"phone_regions": ["Germany"]}}, "responses.phone_regions"),
        ({"responses": {"propose_from": "server"}}, "responses.propose_from"),
        ({"adapters": {"clip_norm": 0}}, "adapters.clip_norm"),
        ({"adapters": {"clip_norm": float("inf")}}, "adapters.clip_norm"),
        ({"adapters": {"noise_multiplier": 1.0}}, "relative to adapters.clip_norm, which is not set"),
        ({"adapters": {"clip_norm": 1.0, "max_epsilon": 8}}, "no epsilon is finite"),
        ({"adapters": {"delta": 1.0}}, "adapters.delta"),
        ({"training": {"max_epsilon": 8}}, "set training.require: dp_grpo"),
        ({"training": {"require": "dp_grpo"}}, "set training.max_epsilon"),
        ({"training": DP}, "metrics.private_steps lets something out"),
        ({"training": DP, "metrics": QUIET | {"heldout": "overall"}}, "metrics.heldout lets something out"),
        ({"training": DP, "metrics": QUIET | {"error_text": True}}, "metrics.error_text lets something out"),
        ({"training": DP, "metrics": QUIET, "responses": {"ngram": 5}}, "set it to 0 (or responses.share: false)"),
        ({"training": DP, "metrics": QUIET, "responses": {"names": "n.txt"}}, "responses.names lets something out"),
        ({"training": DP, "metrics": QUIET, "responses": {"rare_words": 3}}, "responses.rare_words lets something out"),
        ({"training": DP, "metrics": QUIET, "responses": {"rare_words_per_step": 5}}, "set it to null"),
        ({"training": DP, "metrics": QUIET, "responses": {"rare_share_per_job": 0.5}}, "rare_share_per_job lets"),
        ({"responses": {"max_shared_ngrams": 1}}, "responses.max_shared_ngrams: unknown setting"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_an_error(policy_of, values, said):
    with pytest.raises(SettingsError, match="policy") as error:
        policy_of(**values)
    assert said in str(error.value)


def test_log_and_ledger_are_two_files(policy_of):
    with pytest.raises(SettingsError, match="log and ledger are one file"):
        policy_of(log="fedrlvr-ledger.jsonl")


def test_answers_may_leave_beside_noisy_steps_where_no_private_problem_decides_which(policy_of):
    assert policy_of(training=DP, metrics=QUIET, responses={"pii": ["email"]}).responses.share
    assert not policy_of(training=DP, metrics=QUIET, responses={"share": False, "ngram": 5}).responses.share


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grpo__num_generations": 65}, "limits.num_generations is 64, the job asks for 65"),
        ({"grpo__max_completion_length": 10**5}, "limits.max_completion_length is 16384, the job asks for 100000"),
        ({"exchange__prompts_per_step": 513}, "limits.prompts_per_step is 512, the job asks for 513"),
        ({"evaluation__curve_samples": 2000}, "limits.evaluation_samples is 64, the job asks for 2000"),
        # The base model, and in each round the site's own adapter and the averaged one.
        ({"federation__rounds": 100}, "limits.evaluations is 200, the job asks for 201"),
        ({"federation__step_deadline": 1e5}, "limits.step_deadline is 86400, the job asks for 100000"),
        ({"verifier__deadline": 60}, "limits.verifier_deadline is 10, the job asks for 60"),
        ({"verifier__memory_mb": 10**5}, "limits.memory_mb is 4096, the job asks for 100000"),
        ({}, None),
    ],
)
def test_a_job_that_asks_for_more_than_the_clinical_limits(small_job, changes, said):
    clinical = load_settings(SitePolicy, SHIPPED / "clinical.yaml")
    assert clinical.limits.exceeded(small_job(**changes)) == said
    assert SitePolicy().limits.exceeded(small_job(**changes)) is None


def test_paths_are_taken_from_the_policys_folder(policy_of, tmp_path):
    policy = policy_of(log="logs/out.jsonl", ledger="/srv/ledger.jsonl", responses={"names": "names.txt"})
    assert policy.log == tmp_path / "logs/out.jsonl"
    assert policy.ledger == Path("/srv/ledger.jsonl")
    assert policy.responses.names == tmp_path / "names.txt"
    listed = policy_of(responses={"public_texts": ["a.jsonl", "/srv/b.jsonl"]}).responses.public_texts
    assert listed == (tmp_path / "a.jsonl", Path("/srv/b.jsonl"))
    assert policy_of().ledger == tmp_path / "fedrlvr-ledger.jsonl"
    assert policy_of().responses.names is None
