"""`fedrlvr site init` as it is called: what is there afterwards, what it says, and that it writes over nothing."""

import json
from pathlib import Path

import pytest
import yaml

from fedrlvr.cli import main
from fedrlvr.flare.trackers import TRACKERS
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.settings_file import load_settings
from fedrlvr.site_config import SiteConfig

KIT = ["authorization.json", "deepspeed.json", "fedrlvr.yaml", "policy.yaml", "privacy.json", "resources.json"]
DEFAULTS = ["authorization.json.default", "resources.json.default"]


@pytest.fixture
def local(tmp_path) -> Path:
    folder = tmp_path / "ward-7" / "local"
    folder.mkdir(parents=True)
    (folder / "resources.json.default").write_text('{"format_version": 2, "components": []}')
    (folder / "authorization.json.default").write_text(
        '{"format_version": "1.0", "permissions": {"lead": {"submit_job": "any"}}}'
    )
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("public", "test", "north", "north.heldout"):
        (folder / f"{name}.jsonl").touch()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("policy", ["clinical", "open", "sealed"])
def test_a_sites_folder_is_set_up(local, data, capsys, policy):
    given = ["--model", "tiny", "--model-path", str(data), "--data", str(data), "--processes", "2", "--threads", "3"]
    assert main(["site", "init", str(local), "--policy", policy, *given]) == 0
    assert names(local) == sorted([*KIT, *DEFAULTS])
    config = load_settings(SiteConfig, local / "fedrlvr.yaml")
    assert (config.model, config.model_path, config.processes, config.threads) == ("tiny", data, 2, 3)
    assert (config.private_problems, config.heldout_problems) == (data / "north.jsonl", data / "north.heldout.jsonl")
    assert (config.public_problems, config.test_problems) == (data / "public.jsonl", data / "test.jsonl")
    assert config.deepspeed_config.is_file()
    assert load_settings(SitePolicy, config.policy).responses.share == (policy != "sealed")
    said = capsys.readouterr().out
    assert "fill in these settings" not in said
    assert said.endswith(
        f"next: fedrlvr doctor --site-config {local / 'fedrlvr.yaml'} --config PRESET --manifest MANIFEST\n"
    )


def test_what_is_left_to_fill_in_is_said(local, capsys):
    (local / "resources.json.default").unlink()
    assert main(["site", "init", str(local), "--policy", "open", "--model", "tiny"]) == 0
    said = capsys.readouterr().out
    assert "there is no resources.json.default: resources.json has only our entries" in said
    left = "model_path (--model-path); private_problems, public_problems, test_problems (--data)\n"
    assert f"fill in these settings in fedrlvr.yaml: {left}" in said


@pytest.mark.parametrize("name", KIT)
def test_a_file_that_is_gone_is_written_again_and_the_others_are_left_alone(local, data, capsys, name):
    given = ["--model", "tiny", "--model-path", str(data), "--data", str(data)]
    assert main(["site", "init", str(local), "--policy", "clinical", *given]) == 0
    before = {path.name: path.read_text() for path in local.iterdir()}
    (local / name).unlink()
    capsys.readouterr()
    again = given if name == "fedrlvr.yaml" else []
    assert main(["site", "init", str(local), "--policy", "clinical", *again]) == 0
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first == f"wrote {name} into {local}"
    assert sorted(second.removeprefix("left as they were: ").split(", ")) == [other for other in KIT if other != name]
    assert len(rest) == 1
    assert rest[0].startswith("next: fedrlvr doctor ")
    assert {path.name: path.read_text() for path in local.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("policy.yaml", "responses: {max_lenght: 3}", "did you mean responses.max_length?"),
        ("privacy.json", "{}", "does not put SiteGate on every job"),
        ("resources.json", "{}", "lets a job name more than class_allow_list"),
        ("authorization.json", '{"format_version": "1.0", "permissions": {"lead": "any"}}', "lets jobs bring code"),
    ],
)
def test_nothing_is_added_to_a_file_that_would_let_too_much_out(local, capsys, name, content, said):
    (local / name).write_text(content)
    assert main(["site", "init", str(local), "--policy", "clinical"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.endswith("Correct it, or move it away\n")
    assert names(local) == sorted([*DEFAULTS, name])


def test_settings_for_a_site_file_that_stays_are_bad_input(local, capsys):
    assert main(["site", "init", str(local), "--policy", "clinical"]) == 0
    (local / "privacy.json").unlink()
    assert main(["site", "init", str(local), "--policy", "clinical", "--model", "tiny"]) == 2
    assert "leave out the flags for its settings (model), or move it away" in capsys.readouterr().err
    assert not (local / "privacy.json").exists()


def test_nothing_is_written_where_all_files_are_there(local, capsys):
    assert main(["site", "init", str(local), "--policy", "clinical"]) == 0
    assert main(["site", "init", str(local), "--policy", "clinical"]) == 2
    assert "already; nothing was written. Move them away, or edit them by hand" in capsys.readouterr().err


@pytest.mark.parametrize("name", KIT)
def test_nothing_is_written_where_one_of_the_files_cannot_be_read(local, capsys, name):
    (local / name).write_text("mine")
    before = names(local)
    assert main(["site", "init", str(local), "--policy", "clinical"]) == 2
    assert f"{local} has {name} already; nothing was written" in capsys.readouterr().err
    assert names(local) == before
    assert (local / name).read_text() == "mine"


def test_a_servers_folder_is_set_up(local, capsys):
    assert main(["site", "init", str(local), "--server"]) == 2
    assert f"{local}: is not a server's; a site is set up with --policy" in capsys.readouterr().err
    (local / "resources.json.default").write_text('{"servers": [], "components": []}')
    assert main(["site", "init", str(local), "--policy", "open"]) == 2
    assert f"{local}: belongs to a server (for which there is --server)" in capsys.readouterr().err
    assert names(local) == DEFAULTS
    assert main(["site", "init", str(local), "--server"]) == 0
    assert names(local) == sorted(["authorization.json", "resources.json", *DEFAULTS])
    allowed = json.loads((local / "resources.json").read_text())["class_allow_list"]
    assert allowed == ["fedrlvr.flare.server.controller.PubSwapController", TRACKERS["tensorboard"]]
    assert main(["site", "init", str(local), "--server"]) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--data", "DATA", "--site", "south"], "--site: DATA holds problems of north, not of south"),
        (["--data", "LOCAL"], "--data: no public.jsonl in LOCAL; expected a folder made by prepare"),
        (["--site", "north"], "--site: needs --data"),
        (["--processes", "0"], "--processes: expected 1 or more, found 0"),
        (["--threads", "0"], "--threads: expected 1 or more, found 0"),
    ],
)
def test_a_flag_that_does_not_fit_is_bad_input_and_nothing_is_written(local, data, capsys, given, said):
    places = {"DATA": str(data), "LOCAL": str(local)}
    assert main(["site", "init", str(local), "--policy", "open", *(places.get(flag, flag) for flag in given)]) == 2
    for name, place in places.items():
        said = said.replace(name, place)
    assert said in capsys.readouterr().err
    assert names(local) == DEFAULTS


def test_a_folder_of_several_sites_needs_a_name(local, data, capsys):
    (data / "south.jsonl").touch()
    assert main(["site", "init", str(local), "--policy", "open", "--data", str(data)]) == 2
    assert "holds problems of north, south; choose one with --site" in capsys.readouterr().err
    assert main(["site", "init", str(local), "--policy", "open", "--data", str(data), "--site", "south"]) == 0
    values = yaml.safe_load((local / "fedrlvr.yaml").read_text())
    assert values["private_problems"] == str(data / "south.jsonl")
    assert "heldout_problems" not in values


def test_another_folder_than_local_is_bad_input(local, capsys):
    assert main(["site", "init", str(local.parent), "--policy", "open"]) == 2
    assert f"did you mean {local}?" in capsys.readouterr().err
    assert main(["site", "init", str(local / "nowhere"), "--server"]) == 2
    assert "nowhere: no such directory; expected the local/ folder of a FLARE site" in capsys.readouterr().err
    assert main(["site", "init", str(local / "resources.json.default"), "--server"]) == 2
    assert "resources.json.default: is a file; expected the local/ folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["site", "init", "", "--policy", "open"])
    assert "argument DIR: no folder is named" in capsys.readouterr().err
    assert main(["site", "init", str(local), "--server", "--model", "x"]) == 2
    assert "--server takes no settings of a site" in capsys.readouterr().err


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("content", ["", "{", "null", "[]", b"\xff\xfe", Path, None])
def test_a_default_of_flare_that_cannot_be_read_is_named(local, capsys, name, content):
    (local / name).unlink()
    if content is Path:
        (local / name).mkdir()
    elif content is None:
        (local / name).symlink_to("nowhere")
    else:
        (local / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = names(local)
    assert main(["site", "init", str(local), "--policy", "open"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {local / name}: ")
    assert ("cannot be read: " in said) == (content in (Path, None))
    assert names(local) == before


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("resources.json", {"components": None}, "components: expected a list of mappings"),
        ("resources.json", {"components": {"a": {}}}, "components: expected a list of mappings"),
        ("resources.json", {"components": ["a"]}, "components: expected a list of mappings"),
        ("resources.json", {"admin": {}}, "belongs to a server (for which there is --server) or a person"),
        ("authorization.json", {}, "expected permissions, a mapping of roles to their rights"),
        ("authorization.json", {"permissions": {"lead": 3}}, "expected permissions, a mapping of roles"),
    ],
)
def test_a_default_of_flare_that_says_something_else_is_no_reason_to_guess(local, capsys, name, values, said):
    (local / f"{name}.default").write_text(json.dumps(values))
    assert main(["site", "init", str(local), "--policy", "open"]) == 2
    assert said in capsys.readouterr().err
    assert names(local) == DEFAULTS


def test_spaces_and_relative_paths_are_the_callers(local, data, monkeypatch, capsys):
    folder = local.parent / "ward 7"
    local.rename(folder)
    monkeypatch.chdir(folder.parent)
    assert (
        main(["site", "init", "ward 7", "--policy", "open", "--model-path", "my model", "--state-dir", "../s t"]) == 0
    )
    config = load_settings(SiteConfig, folder / "fedrlvr.yaml")
    assert config.model_path == folder.parent / "my model"
    assert config.state_dir == folder.parent.parent / "s t"
    said = capsys.readouterr().out
    assert f"there is no model in {folder.parent / 'my model'} yet" in said
    assert "next: fedrlvr doctor --site-config 'ward 7/fedrlvr.yaml' " in said
