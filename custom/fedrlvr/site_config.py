"""What a site owns and no job can set: where model and problems are, and what hardware does the work."""

import shlex
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fedrlvr.config import Settings


class RolloutSettings(Settings):
    """What samples completions."""

    engine: Literal["cached"] = Field("cached", description="`cached`: the worker itself, from the model it trains.")


class Hardware(Settings):
    """How a site's machine is used. Batch sizes change speed and memory, and results by no more than rounding."""

    processes: int = Field(1, ge=1, description="Ranks of the worker: one for each GPU.")
    threads: int | None = Field(None, ge=1, description="CPU threads of each rank; null: PyTorch's choice.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto`: the GPU if there is one.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Number type of the loaded weights.")
    load_in_4bit: bool = Field(
        False,
        description="Keep the linear layers in 4 bits (NF4, by bitsandbytes; extra `quant`): slower, less memory.",
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

    def check_model(self) -> None:
        """Raises FileNotFoundError where `model_path` is no Hugging Face directory with safetensors weights."""
        folder = self.model_path
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"model_path: no config.json in {folder}; expected a Hugging Face model directory")
        files = sorted(folder.iterdir())
        if not any(path.suffix == ".safetensors" for path in files):
            pickled = [path.name for path in files if path.suffix in (".bin", ".pt", ".pth")]
            found = f"only pickle weights ({pickled[0]}), which can run code when loaded" if pickled else "no weights"
            expected = "*.safetensors (save_pretrained writes them)"
            raise FileNotFoundError(f"model_path: {found} in {folder}; expected {expected}")


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
    deepspeed_config: Path = Field(description="A DeepSpeed file: ZeRO stage 0, 1 or 2.")
    state_dir: Path = Field(description="For checkpoints, the site's adapter and the worker's log.")
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
