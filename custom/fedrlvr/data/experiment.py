"""A preset: the job, plus what a simulation needs to make its own model and problems."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.config import JobConfig
from fedrlvr.data.base_model import BaseModelSettings
from fedrlvr.data.generated import GeneratedData


class ExperimentConfig(JobConfig):
    """One YAML file in `app_configs/`. Only the `JobConfig` part travels to the sites."""

    base_model: BaseModelSettings = BaseModelSettings()
    data: GeneratedData
    deepspeed: Path = Path("deepspeed/zero0.json")  # from the preset's folder; the file every simulated site uses

    @model_validator(mode="after")
    def _quorum(self) -> ExperimentConfig:
        if self.federation.min_sites > len(self.data.sites):
            raise ValueError(
                f"federation.min_sites is {self.federation.min_sites}, but there are only {len(self.data.sites)} sites"
            )
        return self

    def job(self) -> JobConfig:
        """The job as it is sent. `centralised` has one site, which samples as much a step as all sites together."""
        values = {name: getattr(self, name) for name in JobConfig.model_fields}
        if METHODS[self.method].pooled_data:
            values["grpo"] = self.grpo.model_copy(
                update={"prompts_per_step": self.grpo.prompts_per_step * len(self.data.sites)}
            )
            values["federation"] = self.federation.model_copy(update={"min_sites": 1})
        return JobConfig(**values)

    @property
    def site_names(self) -> list[str]:
        return ["pooled"] if METHODS[self.method].pooled_data else list(self.data.sites)
