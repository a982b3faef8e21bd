"""A server that the worker starts: how, until when it is waited for, and that nothing of it is left."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.gone import gone

from fedrlvr.learning import vllm_server
from fedrlvr.learning.vllm_client import VllmClient
from fedrlvr.learning.vllm_server import ServerFailed, VllmServer, server_command
from fedrlvr.processes import wait_until
from fedrlvr.site_config import LocalModel, VllmSettings

SERVES = """
    import http.server, json, os, pathlib, socketserver, subprocess, sys
    folder = pathlib.Path(__file__).parent
    child = subprocess.Popen(["sleep", "600"])  # as vLLM's engine, it does not end with its parent
    (folder / "pids").write_text(f"{os.getpid()} {child.pid}")
    (folder / "environment").write_text(json.dumps(dict(os.environ)))
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers()
        def address_string(self):
            return ""
    socketserver.UnixStreamServer(sys.argv[sys.argv.index("--uds") + 1], Handler).serve_forever()
"""


@pytest.fixture
def python(tmp_path):
    """python(program) -> a path that, run as an interpreter, runs the program with all its arguments."""

    def make(program: str) -> Path:
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\n" + textwrap.dedent(program))
        path.chmod(0o755)
        return path

    return make


def settings(python, **vllm) -> LocalModel:
    rollout = {"engine": "vllm", "vllm": {"python": python, "start_timeout": 60.0} | vllm}
    return LocalModel(model_path="/models/base", rollout=rollout)


def alive(*pids: int) -> list[int]:
    return [pid for pid in pids if not gone(pid)]


def pids(tmp_path) -> list[int]:
    return [int(word) for word in (tmp_path / "pids").read_text().split()]


def start(python, tmp_path, **vllm) -> VllmServer:
    server = VllmServer(settings(python, **vllm), False, 8, tmp_path / "vllm.log")
    server.start(VllmClient(server.url, VllmSettings()).alive)
    return server


def test_it_starts_on_a_socket_for_its_owner_and_ends_with_all_its_processes(python, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}:/elsewhere")
    monkeypatch.setenv("RANK", "3")
    server = start(python(SERVES), tmp_path)
    socket = Path(server.url.removeprefix("unix:"))
    assert socket.parent.stat().st_mode & 0o077 == 0
    environment = json.loads((tmp_path / "environment").read_text())
    assert not {"PYTHONPATH", "RANK", "OMP_NUM_THREADS"} & set(environment)
    assert environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == environment["HF_HUB_OFFLINE"] == "1"
    processes = pids(tmp_path)
    assert alive(*processes) == processes
    server.close()
    assert wait_until(lambda: not alive(*processes), 20)
    assert not socket.parent.exists()


def test_when_the_worker_is_killed_no_process_is_left(python, tmp_path):
    """As the kernel does for memory."""
    program = """
        import pathlib, sys, time
        from tests.learning.test_vllm_server import start
        server = start(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
        print("started", flush=True)
        time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(python(SERVES)), str(tmp_path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as worker:
        assert worker.stdout.readline() == "started\n"
        processes = pids(tmp_path)
        os.kill(worker.pid, signal.SIGKILL)
        try:
            assert wait_until(lambda: not alive(*processes), 20)
        finally:
            worker.kill()


def test_when_the_server_is_killed_no_process_is_left_and_it_can_be_started_again(python, tmp_path):
    server = start(python(SERVES), tmp_path)
    first, child = pids(tmp_path)
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: not server.running, 20)
    assert wait_until(lambda: not alive(first, child), 20)
    server.start(VllmClient(server.url, VllmSettings()).alive)
    assert server.running
    assert pids(tmp_path)[0] != first
    server.close()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print('INFO: loading'); raise ValueError('Head size 16 is not supported')", "died: ValueError: Head size 16"),
        ("pass", "died: the server ended with exit code 0"),
        ("print('loading', flush=True); import time; time.sleep(600)", "did not start within .* = 5 s: "),
    ],
    ids=["an error", "no word", "too slow"],
)
def test_a_server_that_does_not_start_is_told_with_its_last_words(python, tmp_path, program, said):
    with pytest.raises(ServerFailed, match=f"rollout.vllm: the server {said}"):
        start(python(program), tmp_path, start_timeout=5.0 if "sleep" in program else 60.0)


def test_a_python_that_cannot_be_run(tmp_path):
    (tmp_path / "python").write_text("")
    with pytest.raises(ServerFailed, match=r"died: .*(Permission denied|exit code 126)"):
        start(tmp_path / "python", tmp_path)


def test_the_command_serves_this_model_with_an_adapter_and_the_sites_flags_count(monkeypatch):
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    command = server_command(settings("/v/python", flags=["--dtype", "auto"]), False, 9, Path("/s"))
    words = " ".join(command)
    assert words.endswith("--dtype auto --uds /s")
    assert "/v/python -I -m vllm.entrypoints.openai.api_server --model /models/base --load-format safetensors" in words
    assert "--dtype float32" in words
    assert "--max-lora-rank 16" in words
    assert "--logprobs-mode processed_logprobs --generation-config vllm" in words
    assert "VLLM_CPU_KVCACHE_SPACE=1" in command
    assert "--gpu-memory-utilization" not in command
    assert "--no-enable-chunked-prefill" in command
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "9")
    on_gpu = server_command(settings("/v/python"), True, 8, Path("/s"))
    assert "VLLM_CPU_KVCACHE_SPACE=9" in on_gpu
    assert on_gpu[on_gpu.index("--gpu-memory-utilization") + 1] == vllm_server.GPU_SHARE


def test_threads_of_the_site_are_the_servers(monkeypatch):
    config = settings("/v/python").model_copy(update={"threads": 3})
    assert {"OMP_NUM_THREADS=3", "VLLM_CPU_OMP_THREADS_BIND=nobind"} <= set(
        server_command(config, False, 8, Path("/s"))
    )


def test_an_adapter_of_too_high_a_rank_is_refused():
    with pytest.raises(ValueError, match=r"lora.r: rollout.engine vllm serves ranks of at most 512, not 513"):
        server_command(settings("/v/python"), False, 513, Path("/s"))
