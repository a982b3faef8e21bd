"""The files that a FLARE site, or the server, needs in its `local/` folder beside what provisioning put there. Nothing
else writes them; the templates are `app_configs/site`, which the package holds."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import yaml

from fedrlvr.settings_file import SettingsError

POLICIES = ("clinical", "open", "sealed")
SITE_FILE = "fedrlvr.yaml"
SERVER_CLASSES = ["fedrlvr.flare.server.controller.PubSwapController"]
# With any of these a job could bring code of its own, or start other code that lies at the site.
OF_CODE = ("byoc", "server-predeployed-flwr")
TEMPORARY = "/tmp/nvflare/"  # where FLARE's server keeps jobs and snapshots unless told otherwise


def site_kit(local: Path, policy: str, settings: dict[str, object]) -> dict[str, str]:
    """{file name: content} for a site whose `local/` folder is `local`; `settings` go into its fedrlvr.yaml.

    Raises:
        SettingsError: a default file of FLARE that cannot be read, or is not a site's.
    """
    ours = json.loads(template("resources.json"))
    resources = _default(local, "resources.json")
    if resources is None:
        resources = {}
    if "servers" in resources or "admin" in resources:
        raise SettingsError(f"{local}: belongs to a server (for which there is --server) or a person, not to a site")
    components = [*_components(resources, local), *ours["components"]]
    authorization = _default(local, "authorization.json")
    if authorization is None:
        authorization = json.loads(template("authorization.json"))
    return {
        SITE_FILE: filled_in(template(SITE_FILE), settings),
        "policy.yaml": template(f"{policy}.yaml"),
        "privacy.json": template("privacy.json"),
        "deepspeed.json": template("deepspeed.json"),
        "resources.json": _json(resources | ours | {"components": components}),
        "authorization.json": _json(without_foreign_code(authorization)),
    }


def server_kit(local: Path) -> dict[str, str]:
    """{file name: content} for the server.

    Raises:
        SettingsError: not the default files that provisioning makes, or some that cannot be read.
    """
    defaults = {name: _default(local, name) for name in ("resources.json", "authorization.json")}
    for name, values in defaults.items():
        if values is None:
            raise SettingsError(f"{local}: no {name}.default; expected the local/ folder of a FLARE server")
    if "servers" not in defaults["resources.json"]:
        raise SettingsError(f"{local}: is not a server's; a site is set up with --policy in place of --server")
    return {
        "resources.json": _json(server_resources(defaults["resources.json"], local.resolve().parent)),
        "authorization.json": _json(followed_live(defaults["authorization.json"])),
    }


def server_resources(resources: dict, workspace: Path) -> dict:
    """A server's resources where a job may name our controller only, and jobs outlive a restart of the machine."""
    return _kept_in(resources, workspace) | {"class_allow_list": SERVER_CLASSES}


def followed_live(authorization: dict) -> dict:
    """The same authorization, but who may submit jobs may ask the server for the event log of their own while they run:
    a right that FLARE gives no role by name.

    Raises:
        SettingsError: no mapping of roles to their rights.
    """
    roles = {
        role: {"app_command": "n:submitter"} | rights
        if isinstance(rights, dict) and rights.get("submit_job", "none") != "none"
        else rights
        for role, rights in _roles(authorization).items()
    }
    return authorization | {"permissions": roles}


def without_foreign_code(authorization: dict) -> dict:
    """The same authorization, but no role may bring code. A role that may do anything gets every other right by name.

    Raises:
        SettingsError: no mapping of roles to their rights.
    """
    roles = _roles(authorization)
    known = json.loads(template("authorization.json"))["permissions"].values()
    named = dict.fromkeys(right for rights in (*known, *roles.values()) if isinstance(rights, dict) for right in rights)
    spelt = {
        role: rights if isinstance(rights, dict) else dict.fromkeys(named, rights) for role, rights in roles.items()
    }
    nothing = dict.fromkeys(OF_CODE, "none")
    closed = {
        role: {right: allowed for right, allowed in rights.items() if right.strip().lower() not in OF_CODE} | nothing
        for role, rights in spelt.items()
    }
    return authorization | {"permissions": closed}


def filled_in(text: str, settings: dict[str, object]) -> str:
    """The YAML `text` with other values; a commented setting that has one becomes a real one."""
    for name, value in settings.items():
        line = re.compile(rf"^(?:# )?{name}: \S+( *)(#.*)?$", re.MULTILINE)
        if not line.search(text):
            raise ValueError(f"the site file's template has no {name}")
        text = line.sub(lambda found, n=name, v=value: _line(n, v, found[2]), text, count=1)
    return text


def write_new(folder: Path, contents: dict[str, str]) -> None:
    """Write all files, or none.

    Raises:
        FileExistsError: naming those that are there already.
        OSError: one cannot be written.
    """
    there = [name for name in contents if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        raise FileExistsError(
            f"{folder} has {', '.join(there)} already; nothing was written. Move them away, or edit them by hand"
        )
    written = []
    try:
        for name, content in contents.items():
            with open(folder / name, "x", encoding="utf-8") as file:
                written.append(name)
                file.write(content)
    except BaseException:
        for name in written:
            (folder / name).unlink()
        raise


def template(name: str) -> str:
    return (files("fedrlvr") / "templates" / name).read_text(encoding="utf-8")


def _default(local: Path, name: str) -> dict | None:
    """What provisioning put there as `name`.default. Raises SettingsError."""
    path = local / f"{name}.default"
    if not path.exists() and not path.is_symlink():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not valid JSON: {error}; provision the site again") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected a mapping; provision the site again")
    return values


def _components(resources: dict, local: Path) -> list[dict]:
    parts = resources.get("components", [])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise SettingsError(
            f"{local / 'resources.json.default'}: components: expected a list of mappings; provision the site again"
        )
    return parts


def _roles(authorization: dict) -> dict:
    roles = authorization.get("permissions")
    if not isinstance(roles, dict) or not all(isinstance(rights, dict | str | list) for rights in roles.values()):
        raise SettingsError("authorization.json.default: expected permissions, a mapping of roles to their rights")
    return roles


def _kept_in(values, workspace: Path):
    """Every path under FLARE's temporary folder, moved to the workspace."""
    if isinstance(values, dict):
        return {name: _kept_in(value, workspace) for name, value in values.items()}
    if isinstance(values, list):
        return [_kept_in(value, workspace) for value in values]
    if isinstance(values, str) and values.startswith(TEMPORARY):
        return str(workspace / values.removeprefix(TEMPORARY))
    return values


def _line(name: str, value: object, comment: str | None) -> str:
    setting = f"{name}: {_scalar(value)}"
    return f"{setting:<38}  {comment}" if comment else setting


def _scalar(value: object) -> str:
    """A value as YAML reads it back."""
    text = str(value)
    try:
        plain = yaml.safe_load(f"key: {text}") == {"key": value if isinstance(value, int) else text}
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def _json(values: dict) -> str:
    return json.dumps(values, indent=2) + "\n"
