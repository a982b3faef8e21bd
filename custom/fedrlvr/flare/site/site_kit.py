"""The files that a FLARE site, or the server, needs in its `local/` folder besides those that provisioning made. Their
templates come with the package."""

import json
import math
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import yaml

from fedrlvr.flare.trackers import TRACKERS
from fedrlvr.json_text import JsonError, from_json
from fedrlvr.settings_file import SettingsError
from fedrlvr.shipped import template

SITE_FILE = "fedrlvr.yaml"
# A tracker that only writes files. Others send what they get elsewhere: whoever keeps the server may add them.
SERVER_CLASSES = ["fedrlvr.flare.server.controller.PubSwapController", TRACKERS["tensorboard"]]
# FLARE calls every class or function that a job names if it is listed, and FLARE's own list has workflows that send
# results from site to site without the filters of results. A job of ours needs only these.
JOB_CLASSES = {"fedrlvr.flare.site.executor.SiteExecutor", "fedrlvr.flare.server.controller.PubSwapController"}
# Rights with which a job could bring its own code, or start other code that is installed at the site.
OF_CODE = ("byoc", "server-predeployed-flwr")
TEMPORARY = "/tmp/nvflare/"  # where FLARE's server keeps jobs and snapshots by default


def site_kit(local: Path, policy: str, settings: dict[str, object]) -> dict[str, str]:
    """{file name: content} for a site whose `local/` folder is `local`; `settings` go into its fedrlvr.yaml. Raises
    SettingsError if one of FLARE's default files cannot be read, or is not a site's."""
    ours = json.loads(template("resources.json"))
    resources = _default(local, "resources.json") or {}
    if "servers" in resources or "admin" in resources:
        raise SettingsError(f"{local}: belongs to a server (for which there is --server) or a person, not to a site")
    components = resources.get("components", [])
    if not isinstance(components, list) or not all(isinstance(part, dict) for part in components):
        path = local / "resources.json.default"
        raise SettingsError(f"{path}: components: expected a list of mappings; provision the site again")
    authorization = _default(local, "authorization.json")
    if authorization is None:
        authorization = json.loads(template("authorization.json"))
    return {
        SITE_FILE: filled_in(template(SITE_FILE), settings),
        "policy.yaml": template(f"{policy}.yaml"),
        "privacy.json": template("privacy.json"),
        "deepspeed.json": template("deepspeed.json"),
        "resources.json": _json(resources | ours | {"components": [*components, *ours["components"]]}),
        "authorization.json": _json(without_foreign_code(authorization)),
    }


def server_kit(local: Path) -> dict[str, str]:
    """{file name: content} for the server: a job may name our controller only, jobs are kept when the machine restarts,
    and a lead may follow its own. Raises SettingsError if FLARE's default files are missing or not a server's."""
    defaults = {name: _default(local, name) for name in ("resources.json", "authorization.json")}
    for name, values in defaults.items():
        if values is None:
            raise SettingsError(f"{local}: no {name}.default; expected the local/ folder of a FLARE server")
    if "servers" not in defaults["resources.json"]:
        raise SettingsError(f"{local}: is not a server's; a site is set up with --policy instead of --server")
    resources = _json(defaults["resources.json"] | {"class_allow_list": SERVER_CLASSES})
    workspace = json.dumps(f"{local.resolve().parent}/").removesuffix('"')
    return {
        "resources.json": resources.replace(f'"{TEMPORARY}', workspace),  # where a text begins with it
        "authorization.json": _json(followed_live(defaults["authorization.json"])),
    }


def followed_live(authorization: dict) -> dict:
    """The same authorization, but whoever may submit jobs may follow the event log of their own jobs, for which FLARE
    gives no role a right. Raises SettingsError."""
    roles = dict(_roles(authorization))
    for role, rights in roles.items():
        if isinstance(rights, dict) and rights.get("submit_job", "none") != "none":
            roles[role] = {"app_command": "n:submitter"} | rights
    return authorization | {"permissions": roles}


def without_foreign_code(authorization: dict) -> dict:
    """The same authorization, but no role may bring code. A role with one entry for all rights gets one for each.
    Raises SettingsError."""
    roles = _roles(authorization)
    known = json.loads(template("authorization.json"))["permissions"].values()
    named = dict.fromkeys(right for rights in (*known, *roles.values()) if isinstance(rights, dict) for right in rights)

    def closed(rights: dict | str | list) -> dict:
        spelt = rights if isinstance(rights, dict) else dict.fromkeys(named, rights)
        others = {right: allowed for right, allowed in spelt.items() if right.strip().lower() not in OF_CODE}
        return others | dict.fromkeys(OF_CODE, "none")

    return authorization | {"permissions": {role: closed(rights) for role, rights in roles.items()}}


def filled_in(text: str, settings: dict[str, object]) -> str:
    """The YAML `text` with these values. A setting that is commented out in `text` becomes a real one."""
    for name, value in settings.items():
        line = re.compile(rf"^(?:# )?{name}: \S+( *)(#.*)?$", re.MULTILINE)
        if not line.search(text):
            raise ValueError(f"the site file's template has no {name}")
        known = {name: value if isinstance(value, int) else str(value)}
        setting = yaml.safe_dump(known, allow_unicode=True, width=math.inf).strip()
        text = line.sub(lambda found, s=setting: f"{s:<38}  {found[2]}" if found[2] else s, text, count=1)
    return text


def already_in(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of the names that are taken in this folder."""
    return [name for name in names if (folder / name).exists() or (folder / name).is_symlink()]


def write_new(folder: Path, contents: dict[str, str]) -> None:
    """Write all files, or none. Raises FileExistsError, which names those that exist already, or another OSError."""
    if there := already_in(folder, contents):
        raise FileExistsError(
            f"{folder} has {', '.join(there)} already; nothing was written. Move them away, or edit them by hand"
        )
    with ExitStack() as undo:
        for name, content in contents.items():
            with open(folder / name, "x", encoding="utf-8") as file:
                undo.callback((folder / name).unlink)
                file.write(content)
        undo.pop_all()


def _default(local: Path, name: str) -> dict | None:
    """What provisioning wrote as `name`.default; None if there is no such file. Raises SettingsError."""
    path = local / f"{name}.default"
    if not path.exists() and not path.is_symlink():
        return None
    try:
        values = from_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except JsonError as error:
        raise SettingsError(f"{path}: {error}; provision the site again") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected a mapping; provision the site again")
    return values


def _roles(authorization: dict) -> dict:
    roles = authorization.get("permissions")
    if not isinstance(roles, dict) or not all(isinstance(rights, dict | str | list) for rights in roles.values()):
        raise SettingsError("authorization.json.default: expected permissions, a mapping of roles to their rights")
    return roles


def _json(values: dict) -> str:
    return json.dumps(values, indent=2) + "\n"
