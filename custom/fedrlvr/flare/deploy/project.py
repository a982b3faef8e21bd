"""A federation's project file: fill names into a template, make startup kits with `nvflare provision`."""

import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from fedrlvr.settings_file import SettingsError, read_yaml

LOOPBACK = "localhost"  # a server of this name listens on loopback only
FIRST_PORT = 8002


def provision(template: Path, out: Path, server: str, port: int, sites: Sequence[str]) -> Path:
    """Fill the names into `template`, make the startup kits under `out`, and return the folder with one kit for each
    participant. Raises SettingsError for names that cannot be used, a folder that has kits, or an error of FLARE's."""
    project = out / "project.yml"
    if project.exists():
        raise SettingsError(f"--out: {out} has startup kits already, which are not made twice; choose another folder")
    filled = fill_project(read_yaml(template), server, port, sites)
    out.mkdir(parents=True, exist_ok=True)
    project.write_text(yaml.safe_dump(filled, sort_keys=False))
    command = [str(Path(sys.executable).parent / "nvflare"), "provision", "-p", str(project), "-w", str(out)]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    if done.returncode:
        project.unlink()
        output = (done.stderr or done.stdout)[-800:]
        raise SettingsError(f"nvflare provision ended with code {done.returncode}: {output}")
    return out / filled["name"] / "prod_00"


def fill_project(template: dict, server: str, port: int, sites: Sequence[str]) -> dict:
    """`template` with this server, port and these sites. Each site is its own organisation with its own org admin.
    Raises SettingsError for what cannot be used."""
    _check_sites(sites)
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", server):
        raise SettingsError(f"--server-host {server!r}: expected a host name, such as flare.example.org")
    _check_port(port)
    kept = [p for p in template["participants"] if p["type"] != "client" and p.get("role") != "org_admin"]
    people = [p | {"name": server, "fed_learn_port": port} if p["type"] == "server" else p for p in kept]
    for site in sites:
        org = site.replace("-", "_")
        people.append({"name": site, "type": "client", "org": org, "allow_log_streaming": False})
        people.append({"name": f"it@{site.replace('_', '-')}.org", "type": "admin", "org": org, "role": "org_admin"})
    return template | {"participants": people}


def free_port(wanted: int | None) -> int:
    """`wanted`, or without it the first free port from 8002 on. Raises SettingsError if no such port is free."""
    if wanted is not None:
        _check_port(wanted)
    for port in [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + 100):
        if is_free(port):
            return port
    place = f"port {wanted} is" if wanted else f"ports {FIRST_PORT} to {FIRST_PORT + 99} are"
    raise SettingsError(f"--port: {place} taken on this machine; end what listens there, or choose another --port")


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()  # it reuses addresses: closed connections do not count
    except OSError:
        return False
    return True


def _check_port(port: int) -> None:
    if not 0 < port < 2**16:
        raise SettingsError(f"--port: expected 1 to 65535, found {port}")


def _check_sites(sites: Sequence[str]) -> None:
    for site in sites:
        if not re.fullmatch(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+)*", site):
            raise SettingsError(f"site name {site!r}: use letters and digits, with single - or _ between them")
        if site in ("public", "test", "pooled", "server"):
            raise SettingsError(f"site name {site!r} has another meaning here; choose another")
    if not sites or len(set(sites)) < len(sites):
        raise SettingsError(f"sites: expected at least one name, none twice (found {', '.join(sites) or 'none'})")
