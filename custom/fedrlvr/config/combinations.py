"""Settings of different groups that do not go together, each with the reason. All checks raise ValueError."""

import math
from collections.abc import Mapping

from fedrlvr.config.base import Settings
from fedrlvr.config.exchange import ExchangeSettings, SwapSettings
from fedrlvr.config.federation import MOST_SEGMENTS, MOST_STEPS, FederationSettings, PrivacySettings
from fedrlvr.config.learning import GrpoSettings, OptimizerSettings
from fedrlvr.config.task import EvaluationSettings


def check_steps(federation: FederationSettings) -> None:
    if (total := federation.rounds * federation.segments_per_round) > MOST_SEGMENTS:
        raise ValueError(
            f"federation: rounds x segments_per_round is {total}, at most {MOST_SEGMENTS} are "
            "possible; take more local_steps in a segment"
        )
    in_a_task = min(federation.segments_per_task, federation.segments_per_round)
    if (steps := in_a_task * (federation.local_steps + 1)) > MOST_STEPS:
        raise ValueError(
            f"federation: segments_per_task x (local_steps + 1) is {steps} steps, at most {MOST_STEPS} are possible"
        )


def check_schedule(exchange: ExchangeSettings, federation: FederationSettings) -> None:
    adaptive, total_segments = exchange.schedule == "adaptive", federation.rounds * federation.segments_per_round
    if exchange.most_exchanges is not None and not adaptive:
        raise ValueError("exchange.most_exchanges is for exchange.schedule: adaptive; a list of steps says how many")
    if adaptive and federation.segments_per_round == 1:
        raise ValueError(
            "exchange.schedule: adaptive needs federation.segments_per_round of 2 or more: in the first segment of a "
            "round nothing is known yet that an exchange could be decided on"
        )
    if isinstance(exchange.schedule, str):
        return
    schedule = list(exchange.schedule)
    if schedule != sorted(set(schedule)):
        raise ValueError(f"exchange.schedule must rise strictly, not {schedule}")
    outside = [step for step in schedule if not 0 <= step < total_segments]
    if outside:
        raise ValueError(
            f"exchange.schedule names public step {outside[0]}, but there are only {total_segments} "
            "(federation.rounds x federation.segments_per_round, counted from 0); name others, or every"
        )


def check_pace(federation: FederationSettings, exchange: ExchangeSettings, swap: SwapSettings) -> None:
    if federation.pace != "own":
        return
    if exchange.schedule == "adaptive":
        raise ValueError(
            "federation.pace: own and exchange.schedule: adaptive do not go together: there is no moment at which the "
            "server could decide for all sites; use a list of steps, or every"
        )
    if swap.rule == "match_global":
        raise ValueError(
            "federation.pace: own and swap.rule: match_global do not go together: the mean over the sites is not known "
            "when a site swaps; use fill"
        )


def check_rule(swap: SwapSettings, exchange: ExchangeSettings) -> None:
    if swap.rule == "match_global" and exchange.schedule == "adaptive":
        raise ValueError(
            "swap.rule: match_global needs shares of each step's problems, and exchange.schedule: adaptive asks for "
            "others; use rule: fill, or a list of steps"
        )


def check_swap(swap: SwapSettings, grpo: GrpoSettings) -> None:
    if swap.keep_incorrect >= grpo.num_generations:
        raise ValueError(
            f"swap.keep_incorrect is {swap.keep_incorrect}, but a group has only "
            f"grpo.num_generations = {grpo.num_generations} completions: nothing could ever be swapped; choose a "
            "smaller value"
        )


def check_rewards(grpo: GrpoSettings) -> None:
    if "soft_overlong" not in grpo.reward_weights:
        return
    cache, limit = grpo.soft_punish_cache, grpo.max_completion_length
    if cache is None or cache > limit:
        found = "not set" if cache is None else f"{cache}, but a completion has at most {limit} tokens"
        raise ValueError(
            f"grpo.reward_weights names soft_overlong, and grpo.soft_punish_cache is {found}; set it to a number of "
            f"tokens up to grpo.max_completion_length = {limit}, such as {max(1, limit // 5)}"
        )


def check_evaluation(evaluation: EvaluationSettings) -> None:
    if 1 not in evaluation.k:
        raise ValueError(f"evaluation.k must contain 1, as pass@1 is what runs are compared by; found {evaluation.k}")
    if (k := max(evaluation.k)) > evaluation.samples:
        raise ValueError(
            f"evaluation.k asks for pass@{k}, which needs evaluation.samples >= {k}, not {evaluation.samples}"
        )


def check_loss(grpo: GrpoSettings) -> None:
    high = grpo.epsilon if grpo.epsilon_high is None else grpo.epsilon_high
    if grpo.loss_type == "cispo":
        if grpo.epsilon_high is None or grpo.epsilon_high < 1:
            raise ValueError(
                f"grpo.epsilon_high is {grpo.epsilon_high}, but with grpo.loss_type: cispo it is the most that a ratio "
                "can be, not what is added to 1, and needs to be at least 1; set it, such as 5.0"
            )
        if grpo.delta is not None:
            raise ValueError(
                f"grpo.delta is {grpo.delta}, but grpo.loss_type: cispo has no clip to which it could be the other "
                "side; leave it out, and bound the ratio by grpo.epsilon_high"
            )
    elif grpo.delta is not None and grpo.delta <= 1 + high:
        raise ValueError(
            f"grpo.delta is {grpo.delta}, but it must be more than {1 + high:g}, which is 1 + grpo.epsilon_high (or "
            "epsilon): below that it would clip good tokens before their own bound does; raise it, or leave it out"
        )


def check_privacy(privacy: PrivacySettings, grpo: GrpoSettings) -> None:
    """One problem may influence its own group's gradient only, or the noise would not hide it."""
    if privacy.mode != "dp_grpo":
        return
    needed = {
        "num_minibatches": [1],
        "loss_type": ["dr_grpo"],
        "scale_rewards": ["group", "none"],
        "top_entropy_quantile": [1.0],  # the quantile is of all problems' tokens
        "entropy_coef": [0.0],  # the bonus is divided by their number
    }
    for key, values in needed.items():
        if (found := getattr(grpo, key)) not in values:
            allowed = " or ".join(map(str, values))
            raise ValueError(f"grpo.{key} is {found}, but privacy.mode: dp_grpo needs {allowed}")


def check_averaging(federation: FederationSettings, optimizer: OptimizerSettings, method: str) -> None:
    """A factor that is frozen for a round must not move, what the server keeps must mean the same a round later, and a
    trimmed mean needs sites to leave out."""
    name = federation.aggregator
    if name in ("ffa", "rolora") and optimizer.weight_decay > 0:
        raise ValueError(
            f"optimizer.weight_decay is {optimizer.weight_decay:g}, which would move the factor that "
            f"federation.aggregator: {name} freezes; set it to 0"
        )
    if name == "rolora" and not optimizer.reset_each_round:
        raise ValueError(
            "optimizer.reset_each_round is false, and Adam's moments of the round before would move the factor that "
            "federation.aggregator: rolora freezes; set it to true"
        )
    if name in ("svd", "rolora") and federation.server_optimizer != "none":
        why = "turns the factors' basis" if name == "svd" else "freezes another factor"
        raise ValueError(
            f"federation.server_optimizer is {federation.server_optimizer}, but federation.aggregator: {name} {why} in "
            "each round, so what the server keeps of earlier rounds does not fit; take ffa, or none"
        )
    if name == "trimmed_mean" and method == "centralised":
        raise ValueError("federation.aggregator: trimmed_mean needs several sites, and method: centralised has one")
    if name == "trimmed_mean" and federation.min_sites < (least := math.ceil(1 / federation.trim_fraction - 1e-9)):
        raise ValueError(
            f"federation.min_sites is {federation.min_sites}, but with federation.trim_fraction "
            f"{federation.trim_fraction:g} it takes {least} sites until federation.aggregator: trimmed_mean leaves one "
            "out at each end; raise either"
        )


# Settings that act only beside another one: (setting, the other, values of it). Set without it, they would do nothing.
NEEDED = (
    ("exchange.worth", "exchange.schedule", ("adaptive",)),
    ("swap.ratio_cap", "swap.off_policy", ("ratio",)),
    ("swap.shaping_gamma", "swap.off_policy", ("shaped",)),
    ("federation.trim_fraction", "federation.aggregator", ("trimmed_mean",)),
    ("federation.norm_bound", "federation.aggregator", ("norm_bounded",)),
    ("federation.server_learning_rate", "federation.server_optimizer", ("momentum", "adam")),
    ("federation.server_momentum", "federation.server_optimizer", ("momentum",)),
    ("federation.server_betas", "federation.server_optimizer", ("adam",)),
    ("federation.server_tau", "federation.server_optimizer", ("adam",)),
)


def check_needed(groups: Mapping[str, Settings]) -> None:
    """Raises ValueError for a setting that was given another value than its default, and does nothing."""
    for name, other, values in NEEDED:
        group, key = name.split(".")
        beside, switch = other.split(".")
        found = getattr(groups[group], key)
        if found != type(groups[group]).model_fields[key].default and getattr(groups[beside], switch) not in values:
            wanted = " or ".join(values)
            raise ValueError(f"{name} is {found}, which acts only with {other}: {wanted}; set that, or leave it out")
