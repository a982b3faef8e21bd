"""Every setting of a job, as validated models. What a site owns is in `site_config.py`; `settings_file.py` reads files.

A job holds only algorithm settings and names: no path, no hardware. The descriptions are the reference that
`fedrlvr settings` prints.
"""

from fedrlvr.config.base import Settings
from fedrlvr.config.exchange import ExchangeSettings, SwapSettings
from fedrlvr.config.federation import (
    LEAST_NOISE,
    MOST_NOISE,
    MOST_SEGMENTS,
    MOST_STEPS,
    FederationSettings,
    PrivacySettings,
)
from fedrlvr.config.job import JobConfig, Method
from fedrlvr.config.learning import GrpoSettings, LoraSettings, OptimizerSettings
from fedrlvr.config.task import RENDERING, EvaluationSettings, Example, PromptSettings, VerifierSettings

__all__ = [
    "LEAST_NOISE",
    "MOST_NOISE",
    "MOST_SEGMENTS",
    "MOST_STEPS",
    "RENDERING",
    "EvaluationSettings",
    "Example",
    "ExchangeSettings",
    "FederationSettings",
    "GrpoSettings",
    "JobConfig",
    "LoraSettings",
    "Method",
    "OptimizerSettings",
    "PrivacySettings",
    "PromptSettings",
    "Settings",
    "SwapSettings",
    "VerifierSettings",
]
