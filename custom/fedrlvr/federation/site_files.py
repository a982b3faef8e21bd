"""What a participant puts into its own `local/` folder, from the templates of `app_configs/site`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from fedrlvr.site_config import SiteConfig

CONTROLLER = "fedrlvr.federation.controller.PubSwapController"


def settle_site(local: Path, templates: Path, policy: str) -> None:
    """Policy and switches of a site: what may leave, who may do what. `write_site_config` says where its files are."""
    shutil.copyfile(templates / f"{policy}.yaml", local / "policy.yaml")
    shutil.copyfile(templates / "privacy.json", local / "privacy.json")
    ours = json.loads((templates / "resources.json").read_text())
    resources = json.loads((local / "resources.json.default").read_text())
    components = resources["components"] + ours.pop("components")
    _write(local / "resources.json", resources | ours | {"components": components})
    authorization = json.loads((local / "authorization.json.default").read_text())
    _write(local / "authorization.json", forbid_code(authorization))


def forbid_code(authorization: dict) -> dict:
    """`byoc: none` for every role. A role that may do anything by one word gets its rights one by one, but for code."""
    permissions = authorization["permissions"]
    rights = sorted({right for role in permissions.values() if isinstance(role, dict) for right in role})
    for role, granted in permissions.items():
        every = granted if isinstance(granted, dict) else dict.fromkeys(rights, granted)
        permissions[role] = every | {"byoc": "none"}
    return authorization


def settle_server(local: Path, storage: Path) -> None:
    """The server's: our controller and nothing else may be built, jobs are kept under `storage`, not in /tmp, and who
    submitted a job may follow it live, for which FLARE's own roles have no right."""
    resources = json.loads((local / "resources.json.default").read_text())
    resources["class_allow_list"] = [CONTROLLER]
    resources["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(storage / "snapshots")
    for component in resources["components"]:
        if component["id"] == "job_manager":
            component["args"]["uri_root"] = str(storage / "jobs")
    _write(local / "resources.json", resources)
    authorization = json.loads((local / "authorization.json.default").read_text())
    authorization["permissions"]["lead"]["app_command"] = "n:submitter"
    _write(local / "authorization.json", authorization)


def write_site_config(local: Path, config: SiteConfig) -> None:
    values = config.model_dump(mode="json", exclude_none=True) | {"policy": "policy.yaml"}
    (local / "fedrlvr.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def _write(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
