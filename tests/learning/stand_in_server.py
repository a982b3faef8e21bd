"""An HTTP server that answers as vLLM does, by this package's own sampler: for faults of transport and of answers. What
the real server does is tried in test_real_vllm.py."""

import json
import socketserver
import threading
from collections.abc import Callable
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from fedrlvr.learning.model import Policy
from fedrlvr.learning.sampler import CachedSampler

Reply = tuple[int, bytes] | None


class StandInServer:
    """Serves `policy`, with the adapters that it is given. `asked` are the bodies that came, by path. `spoil(path,
    body, reply)` may change what is answered."""

    def __init__(self, policy: Policy, address: tuple[str, int] | Path = ("127.0.0.1", 0), tls=None):
        self.policy, self.folders = policy, {}
        self.asked: list[tuple[str, dict, dict]] = []
        self.spoil: Callable[[str, dict, Reply], Reply] = lambda path, body, reply: reply
        self._lock = threading.Lock()
        kind = _UnixServer if isinstance(address, Path) else ThreadingHTTPServer
        self._server = kind(str(address) if isinstance(address, Path) else address, _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        scheme = "http" if tls is None else "https"
        self.url = (
            f"unix:{address}" if isinstance(address, Path) else f"{scheme}://127.0.0.1:{self._server.server_port}"
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def bodies(self, path: str) -> list[dict]:
        return [body for where, body, _ in self.asked if where == path]

    def reply(self, path: str, body: dict, headers: dict) -> Reply:
        with self._lock:  # there is one model
            self.asked.append((path, body, headers))
            return self.spoil(path, body, self._reply(path, body))

    def _reply(self, path: str, body: dict) -> Reply:
        match path:
            case "/health":
                return 200, b""
            case "/v1/models":
                adapters = [{"id": name, "parent": "base"} for name in self.folders]
                return 200, json.dumps({"data": [*adapters, {"id": "base", "parent": None}]}).encode()
            case "/v1/load_lora_adapter":
                self.folders[body["lora_name"]] = Path(body["lora_path"])
                return 200, b"Success"
            case "/v1/unload_lora_adapter":
                return (200, b"Success") if self.folders.pop(body["lora_name"], None) else (404, b"no such adapter")
            case "/v1/completions" if body["model"] in {"base", *self.folders}:
                return 200, json.dumps({"choices": self._choices(body)}).encode()
        return 404, b"{}"

    def _choices(self, body: dict) -> list[dict]:
        model, random = self.policy.model, torch.Generator().manual_seed(body["seed"])
        if body["model"] != "base":
            folder = self.folders[body["model"]]
            set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        uniforms = torch.rand(body["n"], body["max_tokens"], generator=random)
        with model.disable_adapter() if body["model"] == "base" else nullcontext():
            (group,) = CachedSampler(self.policy, 64).sample([tuple(body["prompt"])], body["temperature"], uniforms)
        return [
            {"index": i, "token_ids": [*one.token_ids], "logprobs": {"token_logprobs": [*one.logprobs]}, "text": "?"}
            for i, one in enumerate(group)
        ]


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 64


def _handler(server: StandInServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._do({})

        def do_POST(self) -> None:
            self._do(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _do(self, body: dict) -> None:
            reply = server.reply(self.path, body, dict(self.headers))
            if reply is None:  # it goes away in the middle
                self.close_connection = True
                return
            status, content = reply
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words) -> None: ...

        def address_string(self) -> str:
            return ""

    return Handler
