"""FLARE's experiment trackers: which there are, and what a job says to each."""

import os
from importlib.util import find_spec
from pathlib import Path

from fedrlvr.settings_file import SettingsError

TRACKERS = {
    "tensorboard": "nvflare.app_opt.tracking.tb.tb_receiver.TBAnalyticsReceiver",
    "mlflow": "nvflare.app_opt.tracking.mlflow.mlflow_receiver.MLflowReceiver",
    "wandb": "nvflare.app_opt.tracking.wandb.wandb_receiver.WandBReceiver",
}
LEFT = ("tb_events", "mlflow.db")  # what they leave beside what our server keeps of the job


def check_tracker(name: str | None) -> None:
    """Raises SettingsError where the package of a tracker is missing."""
    if name is not None and find_spec(name) is None:
        raise SettingsError(f"--track {name}: not installed here, nor perhaps at the server: pip install {name}")


def settings_of(name: str, run: str, folder: Path | None = None) -> dict:
    """For `add_experiment_tracking`, as the tracker's own environment variables say. `folder` is for what would else be
    in the server's current folder."""
    if name == "mlflow":
        return {"tracking_uri": os.environ.get("MLFLOW_TRACKING_URI"), "kw_args": {"run_name": run}}
    if name == "wandb":
        about = {"project": os.environ.get("WANDB_PROJECT", "fedrlvr"), "group": run, "job_type": "train", "name": run}
        place = {"dir": str(folder)} if folder else {}
        return {"mode": os.environ.get("WANDB_MODE", "offline"), "wandb_args": about | place}
    return {}
