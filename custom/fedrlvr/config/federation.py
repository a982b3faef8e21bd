"""Rounds and averages, and the privacy of what they are made from."""

from typing import Literal

from pydantic import Field

from fedrlvr.config.base import Settings
from fedrlvr.config.learning import Decay
from fedrlvr.settings_file import SettingsError

MOST_SEGMENTS = 100_000  # of a job; every message says which one it is about
MOST_STEPS = 10_000  # of a task; its answer has a record of each
# The noise that a job or a site may ask for, relative to the clip norm: outside of it no accountant's series holds.
LEAST_NOISE, MOST_NOISE = 0.05, 1000.0


class FederationSettings(Settings):
    """Rounds, segments, and who has to be there. A segment is `local_steps` private steps and one public step."""

    rounds: int = Field(2, ge=1, description="Adapters are averaged at the end of each round.")
    segments_per_round: int = Field(12, ge=1, description="Segments in a round.")
    local_steps: int = Field(1, ge=1, description="Private steps in a segment.")
    segments_per_task: int = Field(1, ge=1, description="Segments that a site works through in one task, at most.")
    aggregator: Literal["fedit", "svd", "ffa", "rolora", "median", "trimmed_mean", "norm_bounded"] = Field(
        "svd",
        description="How adapters become one: see [How adapters are averaged](README.md#how-adapters-are-averaged).",
    )
    trim_fraction: float = Field(
        0.2, gt=0, lt=0.5, description="Of `trimmed_mean`: the share of sites that is left out at each end."
    )
    norm_bound: float | None = Field(
        None, gt=0, description="Of `norm_bounded`: an update's L2 norm at most; null: the median of the round's."
    )
    server_optimizer: Literal["none", "momentum", "adam"] = Field(
        "none", description="The average is the next adapter, or a gradient for FedAvgM or FedAdam at the server."
    )
    server_learning_rate: float = Field(
        1.0, gt=0, description="Of `momentum` and `adam`; with `adam` a number moves by up to about this in a round."
    )
    server_momentum: Decay = Field(0.9, description="Of `momentum`: the share of the last round's step that is kept.")
    server_betas: tuple[Decay, Decay] = Field((0.9, 0.99), description="Of `adam`: decay rates of its two moments.")
    server_tau: float = Field(1e-3, gt=0, description="Of `adam`: added to the root of its second moment.")
    pace: Literal["together", "own"] = Field(
        "together",
        description="Sites go through a round together, or each at its own pace: slow ones do less and weigh less.",
    )
    min_sites: int = Field(1, ge=1, description="The run ends if fewer sites than this are left.")
    step_deadline: float = Field(
        3600.0, gt=0, description="Seconds a site may work on one task; all other time-outs follow from it."
    )
    max_update_norm: float | None = Field(None, gt=0, description="The server refuses an update of a larger L2 norm.")

    def check_sites(self, there: int) -> None:
        """Raises SettingsError where so few sites are fewer than the job needs."""
        if there < self.min_sites:
            raise SettingsError(f"federation.min_sites is {self.min_sites}, but there are only {there} sites")

    @property
    def start_deadline(self) -> float:
        """Seconds a worker may take to load its libraries and its model: a slow disk is no failure."""
        return max(600.0, self.step_deadline)


class PrivacySettings(Settings):
    """Differential privacy of one private problem, in the private steps. Problems are then Poisson-sampled."""

    mode: Literal["none", "dp_grpo"] = Field("none", description="`dp_grpo` switches it on.")
    clip_norm: float = Field(1.0, gt=0, description="The gradient of each problem's group is clipped to this L2 norm.")
    noise_multiplier: float = Field(
        1.0, ge=LEAST_NOISE, le=MOST_NOISE, description="Noise on their sum, in units of `clip_norm`."
    )
