"""What a site owns and no job can set: where model and problems are, and what hardware does the work."""

from __future__ import annotations

import shlex
from pathlib import Path
from string import Formatter
from typing import Literal

import yaml
from pydantic import Field, field_validator

from fedrlvr.config import Settings


class Hardware(Settings):
    """How a site's machine is used.

    `attn_implementation` is transformers' (default: its own choice); `gradient_checkpointing` spends time to save
    memory in training. `micro_batch_size` and `generation_batch_size` count completions held in memory at once; they
    change speed and memory, not results (beyond floating-point rounding).
    """

    processes: int = Field(1, ge=1)
    threads: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    gradient_checkpointing: bool = False
    micro_batch_size: int = Field(64, ge=1)
    generation_batch_size: int = Field(1024, ge=1)


class LocalModel(Hardware):
    """A model directory, and the machine that it is loaded on."""

    model_path: Path

    def check_model(self) -> None:
        """Raises FileNotFoundError where `model_path` is no Hugging Face directory with safetensors weights."""
        if not (self.model_path / "config.json").is_file():
            raise FileNotFoundError(
                f"model_path: no config.json in {self.model_path}; expected a Hugging Face model directory"
            )
        if not any(self.model_path.glob("*.safetensors")):
            pickled = sorted(
                path.name for ending in ("bin", "pt", "pth") for path in self.model_path.glob(f"*.{ending}")
            )
            found = f"only pickle weights ({pickled[0]}), which can run code when loaded" if pickled else "no weights"
            raise FileNotFoundError(
                f"model_path: {found} in {self.model_path}; expected *.safetensors (save_pretrained writes them)"
            )


WORKER = "{worker}"
PLACEHOLDERS = {"worker", "processes", "port"}


class WorkerSettings(Settings):
    """How a site starts its worker.

    `launch` is a command without a shell. `{worker}`, an argument of its own, stands for the module to run and its
    argument; `{processes}` for the number of ranks, `{port}` for a free port of this machine.
    """

    launch: str | None = None

    @field_validator("launch")
    @classmethod
    def _check_launch(cls, launch: str | None) -> str | None:
        if launch is None:
            return None
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

    def command(self, worker: list[str], processes: int, port: int) -> list[str]:
        """`launch`, split and filled in."""
        words = shlex.split(self.launch)
        filled = ([word.format(processes=processes, port=port)] if word != WORKER else worker for word in words)
        return [argument for arguments in filled for argument in arguments]


class SiteConfig(LocalModel):
    """A site's own `local/fedrlvr.yaml`. Relative paths are taken from the folder of that file.

    `policy` is the site's privacy policy, which its `local/privacy.json` has FLARE enforce.
    """

    model: str
    private_problems: Path
    public_problems: Path
    test_problems: Path
    heldout_problems: Path | None = None
    deepspeed_config: Path
    state_dir: Path
    policy: Path | None = None
    worker: WorkerSettings = WorkerSettings()

    def rooted(self, folder: Path) -> SiteConfig:
        """The same settings with every relative path made absolute under `folder`."""
        paths = {name: folder / value for name, value in self if isinstance(value, Path) and not value.is_absolute()}
        return self.model_copy(update=paths)

    def write(self, path: Path) -> None:
        """Write the site's file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False))

    def check_paths(self) -> None:
        """Find what is missing before a model is loaded.

        Raises:
            FileNotFoundError: naming the setting, the path and what was expected there.
        """
        self.check_model()
        problems = ("private_problems", "public_problems", "test_problems", "heldout_problems")
        for name in (*problems, "deepspeed_config", "policy"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"{name}: no such file: {path}")
