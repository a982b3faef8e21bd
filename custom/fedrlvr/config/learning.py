"""What a site does in a step: adapter, GRPO, optimizer. The names are those of PEFT and TRL."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from fedrlvr.config.base import Settings

RewardName = Literal["accuracy", "format", "soft_overlong", "repetition"]
Weight = Annotated[float, Field(ge=-1000, le=1000)]
Decay = Annotated[float, Field(ge=0, lt=1)]


def _as_in_trl(scale: object) -> object:
    """TRL's `scale_rewards` was a truth value once, and may still be one."""
    return ("none", "group")[scale] if isinstance(scale, bool) else scale


class LoraSettings(Settings):
    """The adapter, with PEFT's names."""

    r: int = Field(8, ge=1, description="The rank of the adapter.")
    alpha: float = Field(16.0, gt=0, description="The adapter is scaled by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input, in training.")
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        description="Ends of module names; `all-linear` is every linear layer except the head.",
    )


class GrpoSettings(Settings):
    """One GRPO step, with TRL's names."""

    num_generations: int = Field(8, ge=2, description="Completions sampled for each prompt: a group.")
    prompts_per_step: int = Field(8, ge=1, description="Private problems in one private step.")
    max_prompt_length: int | None = Field(
        None,
        ge=1,
        description="In tokens; longer prompts are left out, or not solved where measured; null: as the model allows.",
    )
    max_completion_length: int = Field(256, ge=1, description="In tokens.")
    temperature: float = Field(1.0, gt=0, description="Of sampling, in training and in evaluation.")
    num_iterations: int = Field(1, ge=1, le=1000, description="Passes over each sampled batch.")
    num_minibatches: int = Field(1, ge=1, description="Optimizer steps in each pass.")
    epsilon: float = Field(0.2, gt=0, lt=1, description="The probability ratio is clipped below 1 - epsilon.")
    epsilon_high: float | None = Field(
        None,
        gt=0,
        description="It is clipped above 1 + this; null: as `epsilon`. With `cispo` it is the bound itself, as in TRL.",
    )
    delta: float | None = Field(
        None,
        gt=1,
        description="With a negative advantage it is held to this, over 1 + `epsilon_high`; null: free.",
    )
    importance_sampling_level: Literal["token", "sequence"] = Field(
        "token", description="The ratio is a token's, or a completion's: the geometric mean of its tokens' (GSPO)."
    )
    beta: float = Field(0.0, ge=0, description="Weight of the KL divergence from the base model in the loss.")
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo"] = Field(
        "dr_grpo",
        description="Token losses are divided by the completion's length, all tokens of the step (also `dapo`, "
        "`cispo`), or a constant.",
    )
    top_entropy_quantile: float = Field(
        1.0,
        gt=0,
        le=1,
        description="The policy loss is of this share of a step's tokens: those of the highest entropy.",
    )
    entropy_coef: float = Field(
        0.0, ge=0, description="Weight of the entropy bonus in the loss: the mean entropy of the tokens of that share."
    )
    reward_weights: Annotated[dict[RewardName, Weight], Field(min_length=1)] = Field(
        {"accuracy": 1.0},
        description="Names and weights: `accuracy` (the verifier's word), `format`, `soft_overlong`, `repetition`.",
    )
    soft_punish_cache: int | None = Field(
        None, ge=1, description="With `soft_overlong`: over this many tokens before the limit, 0 falls to -1."
    )
    scale_rewards: Annotated[Literal["group", "batch", "none"], BeforeValidator(_as_in_trl)] = Field(
        "group",
        description="Advantages are divided by the standard deviation of the group (also: true), of the batch, or not "
        "(also: false).",
    )
    negative_advantage_scale: float = Field(1.0, ge=0, description="Factor on negative advantages.")
    mask_truncated_completions: bool = Field(False, description="Leave completions that hit the limit out of the loss.")

    @property
    def needs_entropies(self) -> bool:
        return self.top_entropy_quantile < 1 or self.entropy_coef > 0


class OptimizerSettings(Settings):
    """AdamW."""

    learning_rate: float = Field(1e-5, ge=0, description="The highest of the job.")
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="After the warm-up, over all steps that the job plans: constant, or falling to 0."
    )
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="The share of these steps in which the rate rises from 0.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.99), description="Decay rates of AdamW's two moments.")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="The gradient's L2 norm is clipped to this.")
    reset_each_round: bool = Field(True, description="Start each round with fresh moments.")
    proximal_mu: float = Field(
        0.0, ge=0, description="FedProx: each step is also pulled to the round's first adapter, by so much."
    )
