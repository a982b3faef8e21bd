"""The files of simulated sites. FLARE's simulator has one workspace for all sites: a site's own file, which a real site
has as `local/fedrlvr.yaml`, is `local/fedrlvr.SITE.yaml` there."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import yaml

from fedrlvr.flare.site.site_kit import JOB_CLASSES
from fedrlvr.flare.trackers import TRACKERS
from fedrlvr.run import SIMULATED_SERVER
from fedrlvr.settings_file import SettingsError, validate_settings
from fedrlvr.shipped import template
from fedrlvr.site_config import SiteConfig

# As at a real site: a job may name only our classes, and logs are not sent to the server.
CLASSES = sorted({*JOB_CLASSES, *TRACKERS.values()})
RESOURCES = {"format_version": 2, "class_allow_list": CLASSES, "allow_log_streaming": False}
# Makes the simulator apply `local/privacy.json` as a real site does.
KEPT_TO = {"components": [{"id": "fedrlvr_simulated_site", "path": "fedrlvr.flare.workarounds.SimulatedSite"}]}


def simulated_workspace(
    workspace_root: Path, job: str, sites: Mapping[str, SiteConfig], server_state: Path | None = None
) -> Path:
    """Write what FLARE's simulator needs before it runs the job of this name at these sites, and return its workspace.
    `workspace_root` is what `SimEnv` is given, too; `sites` are its clients. The server keeps the last rounds in
    `server_state`; None: in its part of the workspace. Relative paths are taken from the current folder. Files of an
    earlier call are replaced.

    Raises ValueError for a path that FLARE cannot work under and for no site, FileNotFoundError, which begins with the
    site, for a file or folder that a site names and that is not there.
    """
    workspace_root = workspace_root.resolve()
    check_folder(workspace_root, "workspace_root")
    if not sites:
        raise SettingsError("sites: expected at least one, by its name")
    local = workspace_root / job / "local"
    for name, config in sites.items():
        try:
            config.check_paths()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{name}: {error}") from None
        absolute = validate_settings(SiteConfig, config.model_dump(mode="json"), name, Path.cwd())
        absolute.write(local / f"fedrlvr.{name}.yaml")
    if server_state is not None:
        (local / "fedrlvr.server.yaml").write_text(yaml.safe_dump({"state_dir": str(server_state.resolve())}))
    (local / "resources.json").write_text(json.dumps(RESOURCES, indent=2))
    if any(config.policy for config in sites.values()):
        (local / "privacy.json").write_text(json.dumps(json.loads(template("privacy.json")) | KEPT_TO, indent=2))
    return local.parent


def quiet_log(workspace: Path) -> str:
    """Write a log configuration, and return its path for `SimEnv(log_config=...)`: FLARE's log files are as usual, and
    the screen gets only warnings and errors."""
    from nvflare.fuel.utils.log_utils import concise_log_dict

    config = deepcopy(concise_log_dict)
    config["handlers"]["consoleHandler"]["level"] = "WARNING"
    path = workspace / "local" / "quiet_log.json"
    path.write_text(json.dumps(config, indent=2))
    return str(path)


def check_folder(folder: Path, what: str = "--workspace") -> None:
    """Raises ValueError, which begins with `what`, if FLARE cannot work under this folder."""
    if any(character.isspace() for character in str(folder)):
        raise ValueError(f"{what}: FLARE cannot work under a path with a space in it: {folder}")


def server_folder(workspace: Path) -> Path:
    """Where the simulated server keeps what a run leaves: `metrics.jsonl`, and in `rounds/` the adapters."""
    return workspace / SIMULATED_SERVER
