"""`fedrlvr merge`: a plain Hugging Face model directory with an adapter merged into the weights."""

import argparse
from pathlib import Path

from fedrlvr.commands.quiet import quiet
from fedrlvr.json_text import from_json
from fedrlvr.peft_folder import check_peft_folder
from fedrlvr.report.screen import Screen
from fedrlvr.sealed_folder import check_free, new_folder
from fedrlvr.settings_file import SettingsError
from fedrlvr.site.fingerprint import other_base
from fedrlvr.site_config import LocalModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a Hugging Face directory")
    parser.add_argument(
        "--adapter", type=Path, required=True, metavar="DIR", help="a PEFT directory, as a run's adapter/"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for the merged model")
    parser.add_argument("--force", action="store_true", help="merge an adapter that was trained on another model")


def run(arguments: argparse.Namespace) -> int:
    check_free(arguments.out)
    settings = LocalModel(model_path=arguments.model)
    settings.check_model("--model")
    check_peft_folder(arguments.adapter)
    _check_whole(arguments.model)
    if warning := other_base(arguments.adapter, arguments.model):
        if not arguments.force:
            raise SettingsError(f"{warning}; choose that model, or merge with --force")
        Screen(stderr=True).print(f"warning: {warning}", soft_wrap=True)
    quiet()
    from fedrlvr.learning.merge import merge  # loads torch

    console = Screen()
    with console.status("merging"), new_folder(arguments.out) as folder:
        layers = merge(settings, arguments.adapter, folder)
    console.print(
        f"merged {arguments.adapter} into {layers} layers of {arguments.model}: {arguments.out}", soft_wrap=True
    )
    return 0


def _check_whole(model: Path) -> None:
    """Raises SettingsError where the weights are quantised: what is added to them would be rounded away."""
    try:
        config = from_json((model / "config.json").read_bytes())
    except ValueError as error:
        raise SettingsError(f"{model / 'config.json'}: cannot be read: {error}") from None
    if isinstance(config, dict) and config.get("quantization_config"):
        raise SettingsError(f"{model}: its weights are quantised; merge into the model that they were made of")
