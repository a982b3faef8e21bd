"""`fedrlvr site init`: write what a FLARE site, or the server, needs to take part. It never overwrites a file; of a
site's, it writes those that are missing."""

import argparse
import shlex
from collections.abc import Collection
from pathlib import Path

from fedrlvr.data.manifest import HELDOUT, SHARED_SETS
from fedrlvr.flare.site.site_kit import SITE_FILE, already_in, server_kit, site_kit, write_new
from fedrlvr.launch.prepared_problems import sites_in
from fedrlvr.report.screen import Screen
from fedrlvr.settings_file import SettingsError
from fedrlvr.shipped import POLICIES

FILLED_BY = {
    "--model": ["model"],
    "--model-path": ["model_path"],
    "--data": ["private_problems", "public_problems", "test_problems"],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    init = actions.add_parser("init", help="write what a site lacks into its local/ folder; overwrites nothing")
    init.add_argument("folder", type=_named, metavar="DIR", help="the site's local/ folder, as FLARE provisioned it")
    kind = init.add_mutually_exclusive_group(required=True)
    kind.add_argument("--policy", choices=POLICIES, help="what may leave the site")
    kind.add_argument("--server", action="store_true", help="DIR is the server's: let it run our controller only")
    init.add_argument("--model", metavar="NAME", help="the model's name in jobs")
    init.add_argument("--model-path", type=Path, metavar="DIR", help="the model's Hugging Face directory")
    init.add_argument("--data", type=Path, metavar="DIR", help="a folder made by `fedrlvr prepare`")
    init.add_argument("--site", metavar="NAME", help="whose problems to take, where --data holds several sites'")
    init.add_argument("--state-dir", type=Path, metavar="DIR", help="where checkpoints and the worker's log go")
    init.add_argument("--processes", type=int, metavar="N", help="ranks of the worker: one for each GPU")
    init.add_argument("--threads", type=int, metavar="N", help="of the CPU, for each rank (default: PyTorch's choice)")
    init.add_argument("--device", choices=("auto", "cpu", "cuda"))
    init.add_argument("--dtype", choices=("float32", "bfloat16"))


def run(arguments: argparse.Namespace) -> int:
    folder, console = arguments.folder, Screen(soft_wrap=True)
    _check_folder(folder)
    settings = _settings(arguments)
    if arguments.server and settings:
        raise SettingsError("--server takes no settings of a site")
    kit = server_kit(folder) if arguments.server else site_kit(folder, arguments.policy, settings)
    kept = [] if arguments.server else _kept(folder, kit, settings)
    written = {name: content for name, content in kit.items() if name not in kept}
    write_new(folder, written)
    console.print(f"wrote {', '.join(written)} into {folder}")
    if kept:
        console.print(f"left as they were: {', '.join(kept)}")
    if arguments.server:
        console.print("next: start the server; it refuses jobs with other classes than our controller")
    else:
        console.print("\n".join(_site_next(folder, settings, written)))
    return 0


def _kept(folder: Path, kit: Collection[str], settings: dict[str, object]) -> list[str]:
    """The site's files that are there and stay, if others of the kit are missing. Raises SettingsError for one that
    cannot be used as it is, and for settings that its fedrlvr.yaml would not get."""
    there = already_in(folder, kit)
    if not there or len(there) == len(kit):
        return []
    if settings and SITE_FILE in there:
        raise SettingsError(
            f"{folder} has {SITE_FILE} already; nothing was written. Edit it, and leave out the flags for its settings "
            f"({', '.join(settings)}), or move it away"
        )
    from fedrlvr.flare.site.kept_files import check_kept  # loads FLARE

    check_kept(folder, there)
    return there


def _named(path: str) -> Path:
    """A path that is not empty: an unset shell variable would otherwise mean the current folder."""
    if not path:
        raise argparse.ArgumentTypeError("no folder is named")
    return Path(path)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "no such directory"
        raise NotADirectoryError(f"{folder}: {what}; expected the local/ folder of a FLARE site")
    if (folder / "local").is_dir():
        raise SettingsError(f"{folder}: holds a folder local; did you mean {folder / 'local'}?")


def _settings(arguments: argparse.Namespace) -> dict[str, object]:
    """The settings given on the command line. Paths become absolute, as they are relative to the caller's folder."""
    names = ("model", "model_path", "state_dir", "processes", "threads", "device", "dtype")
    settings = {name: getattr(arguments, name) for name in names}
    if arguments.data:
        settings |= _problems(arguments.data, arguments.site)
    elif arguments.site:
        raise SettingsError("--site: needs --data, from which it takes the problems")
    for name in ("processes", "threads"):
        if settings[name] is not None and settings[name] < 1:
            raise SettingsError(f"--{name}: expected 1 or more, found {settings[name]}")
    given = {name: value for name, value in settings.items() if value is not None}
    return {name: value.resolve() if isinstance(value, Path) else value for name, value in given.items()}


def _problems(data: Path, site: str | None) -> dict[str, Path]:
    """The problem files of a site in a prepared folder. Raises SettingsError where one is missing or it is not clear
    whose are meant, and ProblemFileError where no site's are there."""
    for name in SHARED_SETS:
        if not (data / f"{name}.jsonl").is_file():
            raise SettingsError(f"--data: no {name}.jsonl in {data}; expected a folder made by prepare")
    sites = sites_in(data)
    if site is None and len(sites) > 1:
        raise SettingsError(f"--data: {data} holds problems of {', '.join(sites)}; choose one with --site")
    site = site or sites[0]
    if site not in sites:
        raise SettingsError(f"--site: {data} holds problems of {', '.join(sites)}, not of {site}")
    found = {"private_problems": site, "public_problems": "public", "test_problems": "test"}
    if (data / f"{site}{HELDOUT}.jsonl").is_file():
        found["heldout_problems"] = site + HELDOUT
    return {setting: data / f"{name}.jsonl" for setting, name in found.items()}


def _site_next(folder: Path, settings: dict[str, object], written: Collection[str]) -> list[str]:
    lines = []
    if "resources.json" in written and not (folder / "resources.json.default").exists():
        lines.append("there is no resources.json.default: resources.json has only our entries; add those of your site")
    open_settings = [f"{', '.join(names)} ({flag})" for flag, names in FILLED_BY.items() if names[0] not in settings]
    if open_settings and SITE_FILE in written:
        lines.append(f"fill in these settings in {SITE_FILE}: {'; '.join(open_settings)}")
    model = settings.get("model_path")
    if isinstance(model, Path) and not model.is_dir():
        lines.append(f"there is no model in {model} yet")
    site_file = shlex.quote(str(folder / SITE_FILE))
    return [*lines, f"next: fedrlvr doctor --site-config {site_file} --config PRESET --manifest MANIFEST"]
