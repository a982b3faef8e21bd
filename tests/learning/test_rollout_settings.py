"""What a site's file may say about what samples completions."""

import pytest

from fedrlvr.settings_file import SettingsError, load_settings, validate_settings
from fedrlvr.site_config import Hardware, RolloutSettings


def rollout(**vllm) -> RolloutSettings:
    return validate_settings(RolloutSettings, {"engine": "vllm", "vllm": vllm}, "site.yaml")


@pytest.mark.parametrize(
    "vllm",
    [
        {"python": "/opt/vllm/bin/python", "flags": ["--max-model-len", "4096"]},
        {
            "url": "https://gpu7.hospital:8000",
            "adapter_folder": "/shared",
            "ca_file": "ca.pem",
            "token_variable": "KEY",
        },
        {"url": "https://gpu7.hospital/vllm", "adapter_folder": "/shared"},
        {"url": "http://127.0.0.1:8000", "adapter_folder": "/shared"},
        {"url": "http://localhost:8000", "adapter_folder": "/shared"},
        {"url": "http://[::1]:8000", "adapter_folder": "/shared"},
        {"url": "unix:/run/vllm.sock", "adapter_folder": "/shared"},
    ],
)
def test_a_server_of_the_worker_or_of_somebody_else(vllm):
    found = rollout(**vllm).vllm
    assert (found.url, str(found.python)) == (vllm.get("url"), str(vllm.get("python")))


@pytest.mark.parametrize(
    ("vllm", "said"),
    [
        ({}, "engine vllm needs vllm.python or vllm.url"),
        ({"url": "https://h", "python": "/p", "adapter_folder": "/s"}, "give one of them"),
        ({"url": "https://h"}, "url needs adapter_folder"),
        ({"url": "http://gpu7.hospital:8000", "adapter_folder": "/s"}, "http does not hide private problems"),
        ({"url": "http://127.0.0.1.evil.example", "adapter_folder": "/s"}, "http does not hide private problems"),
        ({"url": "http://127.0.0.1@evil.example", "adapter_folder": "/s"}, "must not hold a user, a password"),
        ({"url": "https://me:key@gpu7", "adapter_folder": "/s"}, "must not hold a user, a password"),
        ({"url": "https://gpu7?key=1", "adapter_folder": "/s"}, "must not hold a user, a password, a query"),
        ({"url": "ftp://gpu7", "adapter_folder": "/s"}, "expected https://HOST:PORT"),
        ({"url": "gpu7:8000", "adapter_folder": "/s"}, "expected https://HOST:PORT"),
        ({"url": "", "adapter_folder": "/s"}, "expected https://HOST:PORT"),
        ({"url": "unix:", "adapter_folder": "/s"}, "expected https://HOST:PORT"),
    ],
)
def test_what_cannot_be_meant(vllm, said):
    with pytest.raises(SettingsError, match=said):
        rollout(**vllm)


def test_paths_are_taken_from_the_files_folder(tmp_path):
    (tmp_path / "site.yaml").write_text("rollout: {engine: vllm, vllm: {python: env/bin/python}}")
    assert load_settings(Hardware, tmp_path / "site.yaml").rollout.vllm.python == tmp_path / "env/bin/python"


@pytest.mark.parametrize("name", ["python", "ca_file", "adapter_folder"])
def test_a_path_that_is_not_there_is_named_before_a_model_is_loaded(site_files, tmp_path, name):
    there = {"url": "https://gpu7", "adapter_folder": tmp_path, "ca_file": tmp_path}
    there |= {"python": tmp_path, "url": None} if name == "python" else {}
    vllm = there | {name: tmp_path / "not-there"}
    _, configs = site_files({"site-1": ("A",)})
    values = configs["site-1"].model_dump() | {"rollout": {"engine": "vllm", "vllm": vllm}}
    config = type(configs["site-1"]).model_validate(values)
    with pytest.raises(FileNotFoundError, match=rf"^rollout.vllm.{name}: there is no {tmp_path}/not-there"):
        config.check_paths()
