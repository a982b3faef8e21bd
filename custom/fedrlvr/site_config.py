"""What a site owns and no job can set: where model and problems are, and what hardware does the work."""

import shlex
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from fedrlvr.config import Settings

COMPLETIONS = "completions.jsonl"  # what a model wrote, in a site's `state_dir` or beside an evaluation


class VllmSettings(Settings):
    """A vLLM server. Either the worker starts its own, with `python`, or somebody else runs it, at `url`. It gets the
    prompts of private problems and the site's adapter."""

    python: Path | None = Field(
        None, description="The Python of the virtual environment that vLLM is installed in, which is not this one's."
    )
    flags: tuple[str, ...] = Field(
        (), description="More arguments of the server that the worker starts, as in [--max-model-len, '4096']."
    )
    start_timeout: float = Field(300.0, gt=0, description="Seconds that it may take to start.")
    url: str | None = Field(
        None, description="https://HOST:PORT, or on this machine http://127.0.0.1:PORT or unix:/SOCKET."
    )
    adapter_folder: Path | None = Field(
        None, description="With `url`: a folder of this site alone, which the server reads under the same path."
    )
    ca_file: Path | None = Field(
        None, description="With https: certificates to trust (PEM) instead of the machine's own."
    )
    token_variable: str | None = Field(
        None, description="With `url`: the environment variable of the worker that holds the server's API key."
    )
    request_timeout: float = Field(600.0, gt=0, description="Seconds that the completions to one prompt may take.")

    @field_validator("url")
    @classmethod
    def _is_private(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.username or parts.query or parts.fragment:
            raise ValueError("must not hold a user, a password, a query or a fragment; see token_variable")
        if parts.scheme == "http" and not loopback:
            raise ValueError("http does not hide private problems from the network; use https")
        if not ((parts.scheme in ("http", "https") and parts.hostname) or (parts.scheme == "unix" and parts.path)):
            raise ValueError("expected https://HOST:PORT, http://127.0.0.1:PORT or unix:/SOCKET")
        return url

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.python and self.url:
            raise ValueError("python starts a server and url names one that runs: give one of them")
        if self.url and not self.adapter_folder:
            raise ValueError("url needs adapter_folder: the server loads each new adapter from there")
        return self


class RolloutSettings(Settings):
    """What samples completions. Only `cached` repeats bit for bit."""

    engine: Literal["cached", "continuous", "vllm"] = Field(
        "cached",
        description="`cached`, `continuous` (transformers' continuous batching): the worker itself. `vllm`: a server.",
    )
    vllm: VllmSettings = VllmSettings()

    @model_validator(mode="after")
    def _has_a_server(self) -> Self:
        if self.engine == "vllm" and not (self.vllm.python or self.vllm.url):
            raise ValueError("engine vllm needs vllm.python or vllm.url")
        return self


def _distinct(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(numbers)) < len(numbers):
        raise ValueError("a number stands twice")
    return numbers


class Hardware(Settings):
    """How a site's machine is used. Batch sizes change speed and memory, and results by no more than rounding."""

    processes: int = Field(1, ge=1, description="Ranks of the worker: one for each GPU.")
    gpus: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_distinct)] | None = (
        Field(None, description="GPUs that may be used, by torch's numbers; null: all. Simulated sites take turns.")
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of each rank; null: PyTorch's choice.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto`: the GPU if there is one.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Number type of the loaded weights.")
    load_in_4bit: bool = Field(
        False,
        description="Keep the linear layers in 4 bits (NF4; needs bitsandbytes): slower, less memory.",
    )
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="The attention code of transformers; null: its own choice."
    )
    gradient_checkpointing: bool = Field(False, description="Training takes more time and less memory.")
    micro_batch_size: int = Field(64, ge=1, description="Completions in memory at once, in training.")
    generation_batch_size: int | None = Field(
        None,
        ge=1,
        description="Completions sampled at once, at most; null: what memory holds, which may change a run's rounding.",
    )
    rollout: RolloutSettings = RolloutSettings()


class LocalModel(Hardware):
    """A model directory, and the machine that it is loaded on."""

    model_path: Path = Field(description="The model's Hugging Face directory; safetensors only, never the network.")

    def check_model(self, given_as: str = "model_path") -> None:
        """Raises FileNotFoundError, which begins with what the user gave it as, where `model_path` is no Hugging Face
        directory with safetensors weights."""
        folder = self.model_path
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{given_as}: no config.json in {folder}; expected a Hugging Face model directory")
        files = sorted(folder.iterdir())
        if not any(path.suffix == ".safetensors" for path in files):
            pickled = [path.name for path in files if path.suffix in (".bin", ".pt", ".pth")]
            found = f"only pickle weights ({pickled[0]}), which can run code when loaded" if pickled else "no weights"
            expected = "*.safetensors (save_pretrained writes them)"
            raise FileNotFoundError(f"{given_as}: {found} in {folder}; expected {expected}")


WORKER = "{worker}"
PLACEHOLDERS = {"worker", "processes", "port"}


def _command_template(launch: str) -> str:
    try:
        words = shlex.split(launch)
        parsed = [part for word in words for part in Formatter().parse(word)]
    except ValueError as error:
        raise ValueError(f"cannot be read as a command: {error}") from None
    for _, name, form, conversion in parsed:
        if name is not None and (name not in PLACEHOLDERS or form or conversion):
            raise ValueError(f"unknown placeholder {{{name}}}; known are {{worker}}, {{processes}} and {{port}}")
    if words.count(WORKER) != 1 or sum(name == "worker" for _, name, _, _ in parsed) != 1:
        raise ValueError("must name {worker} exactly once, as an argument of its own: the module, after -m")
    return launch


class WorkerSettings(Settings):
    """How a site starts its worker. In `launch`, `{worker}` stands for the module to run and its argument,
    `{processes}` for the number of ranks, and `{port}` for a free port of this machine."""

    launch: Annotated[str, AfterValidator(_command_template)] | None = Field(
        None,
        description="A command, run without a shell, that opens no port; null: Python, or torchrun for more ranks.",
    )

    def command(self, worker: list[str], processes: int, port: int) -> list[str]:
        """`launch`, split and filled in."""
        words = shlex.split(self.launch)
        filled = ([word.format(processes=processes, port=port)] if word != WORKER else worker for word in words)
        return [argument for arguments in filled for argument in arguments]


class SiteConfig(LocalModel):
    """A site's own `local/fedrlvr.yaml`. Relative paths are taken from the folder of that file."""

    model: str = Field(description="The name by which jobs ask for the model.")
    private_problems: Path = Field(description="The site's own problems; they never leave.")
    public_problems: Path = Field(description="The consortium's public set; it must have the hash that the job names.")
    test_problems: Path = Field(description="The consortium's test set; as for the public set.")
    heldout_problems: Path | None = Field(None, description="The site's own test set, kept from training; null: none.")
    deepspeed_config: Path = Field(description="A DeepSpeed file: ZeRO stage 0, 1, 2 or 3.")
    state_dir: Path = Field(description="For checkpoints, the site's adapter and the worker's log.")
    completion_log_mb: int = Field(
        16, ge=0, description="MiB for the log of what the model writes, which stays at the site; 0: no log."
    )
    lora_rank: int | None = Field(
        None,
        ge=1,
        description="How many ranks of the adapter train, for `svd`; null: all. It limits what is learned, not memory.",
    )
    policy: Path | None = Field(None, description="The site's privacy policy; null: nothing is filtered or logged.")
    worker: WorkerSettings = WorkerSettings()

    def check_paths(self) -> None:
        """Find what is missing before a model is loaded. Raises FileNotFoundError, naming the setting and the path."""
        self.check_model()
        problems = ("private_problems", "public_problems", "test_problems", "heldout_problems")
        for name in (*problems, "deepspeed_config", "policy"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"{name}: no such file: {path}")
        for name in ("python", "ca_file", "adapter_folder"):
            path = getattr(self.rollout.vllm, name)
            if self.rollout.engine == "vllm" and path is not None and not path.exists():
                raise FileNotFoundError(f"rollout.vllm.{name}: there is no {path}")
