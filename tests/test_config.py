"""Settings: what is refused and what it says, and what goes over what."""

import inspect
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from fedrlvr.config import RENDERING
from fedrlvr.launch.experiment import ExperimentConfig, load_experiment
from fedrlvr.server.round_store import ServerConfig
from fedrlvr.settings_file import SettingsError, load_settings

SMALL = """
task: protocol
model: tiny
grpo: {num_generations: 4}
federation: {rounds: 2, segments_per_round: 12}
data:
  sites: {north: [A, B], south: [C]}
"""


@pytest.fixture
def load(tmp_path):
    """Load a small experiment with `--set` overrides, from text if given."""

    def load(*overrides: str, text: str = SMALL, **fixed) -> ExperimentConfig:
        path = tmp_path / "preset.yaml"
        path.write_text(text)
        return load_experiment(path, overrides, **fixed)

    return load


def refusal(load, *overrides: str, **arguments) -> str:
    with pytest.raises(SettingsError) as caught:
        load(*overrides, **arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "key", "nearest"),
    [
        ("grpo.epsilonn=0.3", "grpo.epsilonn", "grpo.epsilon"),
        ("grpo.num_generation=4", "grpo.num_generation", "grpo.num_generations"),
        ("gpro.epsilon=0.3", "gpro", "grpo"),
        ("epsilon=0.3", "epsilon", "grpo.epsilon"),
        ("learning_rate=1", "learning_rate", "optimizer.learning_rate"),
        ("federation.local_step=1", "federation.local_step", "federation.local_steps"),
        ("data.privat_per_site=1", "data.privat_per_site", "data.private_per_site"),
        ("Method=local", "Method", "method"),
        ("grpo.per_device_train_batch_size=4", "grpo.per_device_train_batch_size", "site.micro_batch_size"),
        ("lora_alpha=4", "lora_alpha", "lora.alpha"),
        ("report_to=wandb", "report_to", "--track"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(load, override, key, nearest):
    assert refusal(load, override).endswith(f"preset.yaml with --set: {key}: unknown setting; did you mean {nearest}?")


def test_a_name_of_trl_or_peft_without_a_setting_here_is_told(load):
    assert refusal(load, "lora.use_dora=true").endswith(
        "lora.use_dora: unknown setting; there is none, as app_configs/NAMES.md explains"
    )


@pytest.mark.parametrize(
    ("value", "meant"), [("true", "group"), ("false", "none"), ("none", "none"), ("batch", "batch")]
)
def test_scale_rewards_takes_truth_values_as_in_trl(load, value, meant):
    assert load(f"grpo.scale_rewards={value}").grpo.scale_rewards == meant


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("grpo.epsilon=much", "grpo.epsilon"),
        ("federation.rounds=2.5", "federation.rounds"),
        ("grpo=3", "grpo"),
        ("lora.target_modules=q_proj", "lora.target_modules"),
        ("lora.target_modules=[]", "lora.target_modules"),
        ("exchange.schedule=often", "exchange.schedule"),
        ("data.sites={north: A}", "data.sites.north"),
        ("data.sites={}", "data.sites"),
        ("data.sites={north: []}", "data.sites"),
        ("data.sites={../north: [A]}", "data.sites"),
        ("model=", "model"),
        ("method=pubswop", "method"),
        ("seed=-1", "seed"),
        ("name=../escape", "name"),
        ("grpo.reward_weights={}", "grpo.reward_weights"),
        ("grpo.reward_weights={beauty: 1}", "grpo.reward_weights"),
        ("grpo.reward_weights={accuracy: .inf}", "grpo.reward_weights"),
        ("grpo.soft_punish_cache=0", "grpo.soft_punish_cache"),
        ("swap.rule=match", "swap.rule"),
        ("swap.max_per_site=0", "swap.max_per_site"),
        ("swap.ratio_cap=0", "swap.ratio_cap"),
        ("swap.shaping_gamma=0", "swap.shaping_gamma"),
        ("grpo.epsilon=1", "grpo.epsilon"),
        ("grpo.epsilon=.nan", "grpo.epsilon"),
        ("grpo.num_generations=1", "grpo.num_generations"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate"),
        ("grpo.loss_type=ppo", "grpo.loss_type"),
        ("prompt.chat_template_kwargs={chat_template: x}", "prompt.chat_template_kwargs"),
        ("prompt.chat_template_kwargs={messages: x}", "prompt.chat_template_kwargs"),
    ],
)
def test_a_wrong_value_names_file_key_and_what_was_found(load, override, key):
    message = refusal(load, override)
    assert "preset.yaml with --set: " + key in message
    assert "found" in message


@pytest.mark.parametrize(
    "override",
    ["optimizer.betas=[1.0, 0.99]", "optimizer.betas=[0.9, -0.1]", "optimizer.learning_rate=.inf"],
)
def test_values_that_no_optimizer_takes_are_refused_before_the_job_starts(load, override):
    assert override.split("=")[0] in refusal(load, override)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["grpo.loss_type=cispo"], "grpo.epsilon_high is None, but with grpo.loss_type: cispo it is the most"),
        (["grpo.loss_type=cispo", "grpo.epsilon_high=0.28"], "needs to be at least 1; set it, such as 5.0"),
        (
            ["grpo.loss_type=cispo", "grpo.epsilon_high=5", "grpo.delta=7"],
            "grpo.delta is 7.0, but grpo.loss_type: cispo",
        ),
        (["grpo.delta=1.2"], "grpo.delta is 1.2, but it must be more than 1.2, which is 1 + grpo.epsilon_high"),
        (["grpo.delta=1.25", "grpo.epsilon_high=0.28"], "must be more than 1.28"),
        (["grpo.delta=1"], "grpo.delta"),
        (["grpo.top_entropy_quantile=0"], "grpo.top_entropy_quantile"),
        (["grpo.entropy_coef=-0.1"], "grpo.entropy_coef"),
    ],
)
def test_bounds_of_a_loss_that_make_no_sense_are_refused_with_the_reason(load, overrides, said):
    assert said in refusal(load, *overrides)


def test_bounds_of_a_loss_that_make_sense_are_taken(load):
    load("grpo.loss_type=cispo", "grpo.epsilon_high=5", "grpo.importance_sampling_level=sequence")
    load("grpo.loss_type=dapo", "grpo.delta=1.3", "grpo.epsilon_high=0.28", "grpo.top_entropy_quantile=0.2")


def test_what_is_no_list_is_said_to_be_none(load):
    assert "prompt.examples: expected a list (found 3)" in refusal(load, "prompt.examples=3")


def test_every_mistake_is_reported_at_once(load):
    message = refusal(load, "grpo.epsilon=2", "lora.r=0", "nonsense=1")
    assert len(message.splitlines()) == 3


def test_a_missing_required_setting_is_named(load):
    assert "task: required setting is missing" in refusal(load, text=SMALL.replace("task: protocol", ""))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["swap.keep_incorrect=4"], ["swap.keep_incorrect is 4", "grpo.num_generations = 4"]),
        (
            ["grpo.reward_weights={accuracy: 1, soft_overlong: 1}"],
            ["soft_overlong", "grpo.soft_punish_cache is not set"],
        ),
        (
            ["grpo.reward_weights={soft_overlong: 1}", "grpo.soft_punish_cache=300"],
            ["grpo.soft_punish_cache is 300", "at most 256 tokens", "such as 51"],
        ),
        (["evaluation.k=[1, 5]", "evaluation.samples=4"], ["pass@5", "evaluation.samples"]),
        (["evaluation.k=[0, 1]"], ["evaluation.k"]),
        (["evaluation.k=[4]"], ["evaluation.k", "1"]),  # the server refuses scores without pass@1
        (["evaluation.k=[]"], ["evaluation.k"]),
        (["federation.rounds=1000000000000"], ["rounds x segments_per_round", "100000 are possible", "local_steps"]),
        (["federation.local_steps=10000"], ["local_steps", "10001 steps", "at most 10000"]),
        (["federation.segments_per_task=12", "federation.local_steps=1000"], ["segments_per_task", "12012 steps"]),
        (["federation.aggregator=ffa", "optimizer.weight_decay=0.1"], ["optimizer.weight_decay is 0.1", "ffa"]),
        (["federation.aggregator=rolora", "optimizer.weight_decay=0.1"], ["optimizer.weight_decay is 0.1", "rolora"]),
        (["federation.aggregator=rolora", "optimizer.reset_each_round=false"], ["reset_each_round is false", "rolora"]),
        (
            ["federation.server_optimizer=adam"],
            ["server_optimizer is adam", "aggregator: svd turns the factors' basis"],
        ),
        (
            ["federation.server_optimizer=momentum", "federation.aggregator=rolora"],
            ["server_optimizer is momentum", "aggregator: rolora freezes another factor"],
        ),
        (["federation.aggregator=trimmed_mean", "federation.min_sites=4"], ["min_sites is 4", "0.2 it takes 5 sites"]),
        (
            ["federation.aggregator=trimmed_mean", "federation.min_sites=5", "method=centralised"],
            ["trimmed_mean needs several sites", "method: centralised has one"],
        ),
        (["exchange.schedule=[0, 24]"], ["exchange.schedule", "24"]),
        (
            ["exchange.schedule=adaptive", "federation={rounds: 2, segments_per_round: 1}"],
            ["segments_per_round", "adaptive"],
        ),
        (["exchange.worth=0.2"], ["exchange.worth", "exchange.schedule: adaptive"]),
        (["swap.ratio_cap=3.0"], ["swap.ratio_cap", "swap.off_policy: ratio"]),
        (["federation.server_learning_rate=0.1"], ["server_learning_rate", "server_optimizer: momentum or adam"]),
        (["federation.pace=own", "exchange.schedule=adaptive"], ["federation.pace", "exchange.schedule"]),
        (["exchange.most_exchanges=2"], ["exchange.most_exchanges", "adaptive"]),
        (["exchange.schedule=adaptive", "swap.rule=match_global"], ["swap.rule", "exchange.schedule"]),
        (["exchange.schedule=[-1]"], ["exchange.schedule", "-1"]),
        (["exchange.schedule=[3, 2]"], ["exchange.schedule must rise"]),
        (["exchange.schedule=[3, 3]"], ["exchange.schedule must rise"]),
    ],
)
def test_settings_that_cannot_go_together_are_refused_with_the_names_of_both(load, overrides, named):
    """24 public steps (2 rounds of 12 segments), groups of 4, two sites."""
    message = refusal(load, *overrides)
    assert all(name in message for name in named), message


def test_the_limits_of_the_combinations_are_allowed(load):
    config = load("swap.keep_incorrect=3", "evaluation.k=[1, 4]", "exchange.schedule=[0, 23]", "federation.min_sites=2")
    assert config.exchange.schedule == (0, 23)
    assert load("exchange.schedule=[]").exchange.schedule == ()


def test_overrides_are_read_as_yaml_into_nested_keys_and_the_last_wins(load):
    config = load("grpo.epsilon=0.3", "swap.repeat=true", "evaluation.k=[1, 2]", "grpo.epsilon=0.1", "name=a-b")
    assert (config.grpo.epsilon, config.swap.repeat, config.evaluation.k, config.name) == (0.1, True, (1, 2), "a-b")
    assert config.grpo.num_generations == 4  # what stood beside it in the file stays


def test_fixed_values_win_over_overrides_unless_they_are_none(load):
    config = load("method=local", "seed=3", method="fedavg", seed=None)
    assert (config.method, config.seed) == ("fedavg", 3)


@pytest.mark.parametrize("override", ["grpo.epsilon", "=3", "grpo.epsilon=[1", "task.name=3"])
def test_an_override_that_cannot_be_read_is_quoted(load, override):
    assert f"--set {override}" in refusal(load, override)


@pytest.mark.parametrize("text", ["task: [", "task: \t- x\n\ta", "- a\n- b", "just words", ""])
def test_a_file_that_is_no_mapping_is_refused_by_name(load, text):
    message = refusal(load, text=text)
    assert "preset.yaml: " in message
    assert "not valid YAML" in message or "expected a mapping" in message


def test_a_file_that_is_missing_or_not_text_is_refused_by_name(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00task")
    for name, reason in (("missing.yaml", "No such file"), ("binary.yaml", "not valid YAML")):
        with pytest.raises(SettingsError, match=reason) as caught:
            load_experiment(tmp_path / name)
        assert name in str(caught.value)


def test_the_tiny_part_goes_over_the_rest_and_overrides_over_both(load):
    text = SMALL + "tiny: {grpo: {epsilon: 0.3}, seed: 5}"
    assert (load(text=text).grpo.epsilon, load(text=text).seed) == (0.2, 0)
    dry = load("grpo.epsilon=0.4", text=text, tiny=True, seed=6)
    assert (dry.grpo.epsilon, dry.grpo.num_generations, dry.seed) == (0.4, 4, 6)
    assert "has no part called tiny" in refusal(load, tiny=True)
    assert "gpro: unknown setting; did you mean grpo?" in refusal(load, text=SMALL + "tiny: {gpro: {}}", tiny=True)


def test_centralised_has_one_site_that_samples_for_all(load):
    sites = ["north", "south"]
    one, many = load(method="centralised").job(sites), load(method="fedavg").job(sites)
    assert one.grpo.prompts_per_step == 2 * many.grpo.prompts_per_step
    assert load("federation.min_sites=2", method="centralised").job(sites).federation.min_sites == 1


def test_more_sites_needed_than_there_are(load):
    with pytest.raises(SettingsError, match="min_sites is 3, but there are only 2 sites"):
        load("federation.min_sites=3").job(["north", "south"])


def test_everything_that_rendering_a_template_takes_for_itself_is_reserved():
    parameters = inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters
    assert {name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD} - {"self"} <= RENDERING


def test_relative_paths_are_taken_from_the_folder_of_the_file_itself_wherever_a_link_to_it_stands(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "server.yaml").write_text("state_dir: rounds\n")
    (tmp_path / "link.yaml").symlink_to("kept/server.yaml")
    for path in (tmp_path / "kept" / "server.yaml", tmp_path / "link.yaml"):
        assert load_settings(ServerConfig, path).state_dir == tmp_path / "kept" / "rounds"
    assert ServerConfig(state_dir=Path("rounds")).state_dir == Path("rounds")
    (tmp_path / "link.yaml").unlink()
    (tmp_path / "link.yaml").write_text("state_dir: /var/rounds\n")
    assert load_settings(ServerConfig, tmp_path / "link.yaml").state_dir == Path("/var/rounds")
