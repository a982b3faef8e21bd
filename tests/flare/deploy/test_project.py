"""Names are filled into the project file, kits are made from it, and `fedrlvr site init` works in them."""

import json
import socket
from pathlib import Path

import pytest
import yaml

from fedrlvr.cli import main
from fedrlvr.flare.deploy.deployment import Deployment
from fedrlvr.flare.deploy.project import fill_project, free_port, is_free, provision
from fedrlvr.flare.lead.session import open_kit
from fedrlvr.settings_file import SettingsError

ROOT = Path(__file__).parents[3]
PROJECT = ROOT / "poc" / "project.yml"
TEMPLATE = yaml.safe_load(PROJECT.read_text())


def test_filling_in_the_templates_own_names_gives_the_template():
    filled = fill_project(TEMPLATE, "localhost", 8002, ["hospital-a", "hospital-b"])
    key = lambda participant: participant["name"]  # noqa: E731
    assert sorted(filled.pop("participants"), key=key) == sorted(TEMPLATE["participants"], key=key)
    assert filled == {name: value for name, value in TEMPLATE.items() if name != "participants"}


def test_other_names_replace_all_of_the_templates_names(tmp_path):
    path = tmp_path / "project.yml"
    path.write_text(yaml.safe_dump(fill_project(TEMPLATE, "flare.example.org", 9000, ["north", "south_2"])))
    made = Deployment(path, tmp_path)
    assert (made.server, made.port, made.sites) == ("flare.example.org", 9000, ["north", "south_2"])
    assert (made.admin, made.lead) == ("admin@consortium.org", "lead@consortium.org")
    assert "hospital" not in path.read_text()
    assert TEMPLATE["participants"][0]["name"] == "localhost"  # untouched


@pytest.mark.parametrize(
    ("server", "sites", "message"),
    [
        ("localhost", [], "at least one name, none twice (found none)"),
        ("localhost", ["a", "a"], "none twice (found a, a)"),
        ("localhost", ["../a"], "site name '../a': use letters and digits"),
        ("localhost", ["test"], "site name 'test' has another meaning here"),
        ("my server", ["a"], "--server-host 'my server': expected a host name"),
    ],
)
def test_names_that_cannot_be_used(server, sites, message):
    with pytest.raises(SettingsError) as error:
        fill_project(TEMPLATE, server, 8002, sites)
    assert message in str(error.value)


def test_a_file_that_is_not_a_project(tmp_path):
    (tmp_path / "project.yml").write_text("participants: [{name: a, type: client}]")
    with pytest.raises(SettingsError, match="not a project file with a server"):
        Deployment(tmp_path / "project.yml", tmp_path)
    with pytest.raises(SettingsError, match=r"nowhere.yml: cannot be read"):
        Deployment(tmp_path / "nowhere.yml", tmp_path)


def test_a_taken_port_is_named_and_otherwise_the_next_free_one_is_chosen():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(SettingsError, match=f"--port: port {port} is taken"):
            free_port(port)
    assert is_free(free_port(None))
    for impossible in (0, -1, 65536):
        with pytest.raises(SettingsError, match=f"--port: expected 1 to 65535, found {impossible}"):
            free_port(impossible)
        with pytest.raises(SettingsError, match="--port: expected 1 to 65535"):
            fill_project(TEMPLATE, "localhost", impossible, ["north"])


def test_kits_and_what_server_and_site_say_in_their_own_folders(tmp_path):
    kits = provision(PROJECT, tmp_path / "kits", "localhost", 8002, ["north"])
    names = {"localhost", "north", "it@north.org", "lead@consortium.org", "admin@consortium.org"}
    assert {kit.name for kit in kits.iterdir()} == names
    open_kit(kits / "lead@consortium.org")
    with pytest.raises(SettingsError, match="not an administrator's startup kit"):
        open_kit(kits / "north")
    with pytest.raises(SettingsError, match="has startup kits already"):
        provision(PROJECT, tmp_path / "kits", "localhost", 8002, ["north"])
    server = kits / "localhost" / "local"
    assert main(["site", "init", str(server), "--server"]) == 0
    resources = (server / "resources.json").read_text()
    assert "/tmp/nvflare" not in resources
    assert f'"{kits / "localhost" / "jobs-storage"}"' in resources
    roles = json.loads((server / "authorization.json").read_text())["permissions"]
    assert roles["lead"]["app_command"] == "n:submitter"
    local = kits / "north" / "local"
    assert main(["site", "init", str(local), "--policy", "clinical"]) == 0
    roles = json.loads((local / "authorization.json").read_text())["permissions"]
    assert {role: rights["byoc"] for role, rights in roles.items()} == dict.fromkeys(roles, "none")
    assert yaml.safe_load((local / "policy.yaml").read_text())["metrics"]["error_text"] is False
    assert json.loads((local / "resources.json").read_text())["allow_log_streaming"] is False
