"""The job: all settings that its sites agree on."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fedrlvr.config.base import Settings
from fedrlvr.config.combinations import (
    check_averaging,
    check_evaluation,
    check_loss,
    check_needed,
    check_pace,
    check_privacy,
    check_rewards,
    check_rule,
    check_schedule,
    check_steps,
    check_swap,
)
from fedrlvr.config.exchange import ExchangeSettings, SwapSettings
from fedrlvr.config.federation import FederationSettings, PrivacySettings
from fedrlvr.config.learning import GrpoSettings, LoraSettings, OptimizerSettings
from fedrlvr.config.task import EvaluationSettings, PromptSettings, VerifierSettings

Method = Literal["pubswap", "replace-all", "public-only", "fedavg+public", "fedavg", "local", "centralised"]


class JobConfig(Settings):
    """Everything that is agreed between the sites of one job."""

    name: str = Field("fedrlvr", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Of the job and its folder.")
    method: Method = Field("pubswap", description="What sites exchange and average.")
    seed: int = Field(0, ge=0, description="All draws follow from it, but for those that a site keeps secret.")
    task: str = Field(
        description="The problems, the prompt and the verifier: one of ours, or one of an installed package."
    )
    model: str = Field(description="The name by which each site's own file offers the base model.")
    lora: LoraSettings = LoraSettings()
    grpo: GrpoSettings = GrpoSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    swap: SwapSettings = SwapSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    federation: FederationSettings = FederationSettings()
    privacy: PrivacySettings = PrivacySettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    verifier: VerifierSettings = VerifierSettings()
    prompt: PromptSettings = PromptSettings()

    @property
    def total_segments(self) -> int:
        return self.federation.rounds * self.federation.segments_per_round

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        check_steps(self.federation)
        check_needed({"exchange": self.exchange, "swap": self.swap, "federation": self.federation})
        check_schedule(self.exchange, self.federation)
        check_swap(self.swap, self.grpo)
        check_rule(self.swap, self.exchange)
        check_pace(self.federation, self.exchange, self.swap)
        check_rewards(self.grpo)
        check_loss(self.grpo)
        check_evaluation(self.evaluation)
        check_privacy(self.privacy, self.grpo)
        check_averaging(self.federation, self.optimizer, self.method)
        return self
