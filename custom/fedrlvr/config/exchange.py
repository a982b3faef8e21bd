"""What sites exchange on public problems, and what a site does with it."""

from typing import Literal

from pydantic import Field

from fedrlvr.config.base import Settings


class SwapSettings(Settings):
    """Which of a site's own wrong completions are replaced by right answers of other sites, and how these count."""

    rule: Literal["fill", "match_global"] = Field(
        "fill",
        description="Swap as many as there are, or until as large a share of the group is right as at the mean site.",
    )
    prefer: Literal["random", "short", "likely"] = Field(
        "random", description="Which pooled answers to a problem go first; `likely`: as the receiver's own model finds."
    )
    repeat: bool = Field(False, description="One pooled answer may take several places in a group.")
    keep_incorrect: int = Field(1, ge=0, description="Wrong completions that stay in each group.")
    max_swaps: int | None = Field(None, ge=0, description="At most this many swaps in a group; null: no limit.")
    max_per_site: int | None = Field(
        None, ge=1, description="At most this many answers of one site in a group; null: no limit."
    )
    off_policy: Literal["receiver", "ratio", "shaped"] = Field(
        "receiver",
        description="A swapped token's loss: as of an own one; by its ratio to the sender's policy; or shaped.",
    )
    ratio_cap: float = Field(2.0, gt=0, description="With `ratio`, the most that a token weighs.")
    shaping_gamma: float = Field(0.1, gt=0, description="With `shaped`, gamma in p / (p + gamma).")


class ExchangeSettings(Settings):
    """When sites exchange verified answers to public problems, and how many."""

    prompts_per_step: int = Field(8, ge=1, description="Public problems in one public step.")
    schedule: Literal["every", "adaptive"] | tuple[int, ...] = Field(
        "every",
        description="Public steps that begin with an exchange, counted from 0 over the job, rising; or when it pays.",
    )
    worth: float = Field(
        0.1,
        ge=0,
        le=1,
        description="`adaptive`: exchange if this share of all pairs of site and public problem would be solved by it.",
    )
    most_exchanges: int | None = Field(None, ge=1, description="`adaptive`: at most so many a round; null: no limit.")
    keep_pool: bool = Field(True, description="A site keeps what it received, for later public steps.")
    max_per_site: int = Field(4, ge=1, description="Answers of one site to one problem that are passed on.")
    max_per_prompt: int = Field(16, ge=1, description="Answers to one problem that a site gets and keeps.")
