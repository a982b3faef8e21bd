"""The files of `app_configs/` that come with the package: presets, DeepSpeed files, a site's own files."""

from pathlib import Path

from fedrlvr.settings_file import SettingsError, read_yaml

APP_CONFIGS = Path(__file__).parent / "app_configs"  # in the source tree a link to the folder at the top
CONSTRAINTS = APP_CONFIGS / "constraints.txt"  # the versions that were tested
POLICIES = ("clinical", "open", "sealed")


def shipped(kind: str) -> dict[str, Path]:
    """Each file of a kind by its name. The kinds are `preset`, `deepspeed` and `policy`."""
    if kind == "policy":
        return {name: APP_CONFIGS / "site" / f"{name}.yaml" for name in POLICIES}
    pattern = {"preset": "*.yaml", "deepspeed": "deepspeed/*.json"}[kind]
    return {path.stem: path for path in sorted(APP_CONFIGS.glob(pattern))}


def dry_run_presets(task: str) -> list[str]:
    """The names of our presets for a task that have a part for `--tiny`."""
    read = {name: read_yaml(path) for name, path in shipped("preset").items()}
    return [name for name, values in read.items() if values["task"] == task and "tiny" in values]


def file_or_shipped(kind: str, text: str) -> Path:
    """The file that a user means: a path, or the name of one of ours. Raises SettingsError."""
    path, ours = Path(text), shipped(kind)
    if path.is_file():
        return path
    if text in ours:
        return ours[text]
    raise SettingsError(
        f"{text}: no such file, and no {kind} that comes with fedrlvr; expected the path of a file, or one of "
        f"{', '.join(ours)}"
    )


def template(name: str) -> str:
    """What `fedrlvr site init` begins a site's own file with."""
    return (APP_CONFIGS / "site" / name).read_text(encoding="utf-8")
