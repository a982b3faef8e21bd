"""Tables read by the `datasets` library: from the hub, from a directory, from one file.

Files are checked before the library reads them. The texts of its errors are not passed on: they are long, and may
quote cells.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from fedrlvr.data.rows import LETTERS

TEXT, INTEGER, NUMBER = "text", "an integer", "a number"
OPTIONS = f"an object of the texts {', '.join(LETTERS)}"
READERS = {".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json", ".csv": "csv"}
HUB_TIMEOUT = 10.0  # seconds to wait for the hub's first answer

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BEGINNINGS = {".parquet": (b"PAR1",), ".arrow": (b"ARROW1", b"\xff\xff\xff\xff")}
_EXPECTED = f"a directory or a file with one of {', '.join(READERS)}, or a hub id such as openai/gsm8k"


class SourceError(ValueError):
    """Data that cannot be read, or that are not the expected data set."""


@dataclass(frozen=True)
class Table:
    """One split of one configuration; `name` names both in errors."""

    name: str
    rows: datasets.Dataset

    def check_columns(self, dataset: str, columns: Mapping[str, str], optional: Mapping[str, str]) -> None:
        """Raises SourceError for no rows, a missing column, or one of another kind than expected."""
        features = self.rows.features
        where, found = f"{dataset}, split {self.name}", f"found {', '.join(sorted(features))}"
        for column in columns:
            if column not in features:
                raise SourceError(f"{where}: no column {column}; {found}; expected {', '.join(columns)}")
        for column, kind in (columns | optional).items():
            if column in features and not _is_of(features[column], kind):
                kinds = getattr(features[column], "dtype", None) or type(features[column]).__name__
                raise SourceError(f"{where}, column {column}: expected {kind}, found {kinds}")
        if len(self.rows) == 0:
            raise SourceError(f"{where}: holds no row; expected at least one problem")


def load_tables(source: str, configs: tuple[str, ...], cache: str) -> tuple[dict[str, list[Table]], str]:
    """The tables of `configs` (all if empty) by split, and the hub's commit ("" for local files). Raises SourceError
    where nothing is there, or it cannot be reached or read."""
    path = Path(source)
    revision = ""
    if not path.exists():
        if not _HUB_ID.fullmatch(source) or path.suffix in READERS:
            raise SourceError(f"{source}: no such file or directory; expected {_EXPECTED}")
        revision = _hub_revision(source)
    elif path.is_file():
        check_file(path)
    else:
        _check_folder(path)
    try:
        tables = list(_local(path, configs, cache) if path.exists() else _hub(source, configs, revision))
    except SourceError:
        raise
    except Exception as error:  # from whatever `datasets` uses: arrow, pandas, the file system, the network
        raise SourceError(
            f"{source}: the datasets library cannot read it ({_kinds(error)}); expected {_EXPECTED}"
        ) from None
    splits: dict[str, list[Table]] = {}
    for split, table in tables:
        splits.setdefault(split, []).append(table)
    return splits, revision


def check_file(path: Path) -> None:
    """Raises SourceError for an unknown kind of file, an empty file, and what a failed download leaves: a web page, a
    git-lfs pointer, or a part of the file."""
    if path.suffix not in READERS:
        raise SourceError(f"{path}: cannot be read; expected {_EXPECTED}")
    with path.open("rb") as file:
        start = file.read(64)
        size = file.seek(0, 2)
        file.seek(max(0, size - 4))
        end = file.read()
    if size == 0:
        raise SourceError(f"{path}: empty file; download it again")
    if start.startswith(b"version https://git-lfs"):
        raise SourceError(f"{path}: a git-lfs pointer, not the data; fetch them with `git lfs pull`")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise SourceError(f"{path}: a web page, as a failed download leaves; download the file itself")
    beginnings = _BEGINNINGS.get(path.suffix)
    if beginnings and not start.startswith(beginnings):
        raise SourceError(f"{path}: not a {path.suffix[1:]} file by its first bytes; download it again")
    if path.suffix == ".parquet" and end != b"PAR1":
        raise SourceError(f"{path}: the end of this parquet file is missing; download it again")


def _check_folder(folder: Path) -> None:
    files = [file for file in sorted(folder.rglob("*")) if file.suffix in READERS and file.is_file()]
    if not files:
        raise SourceError(f"{folder}: no data in this directory; expected files with one of {', '.join(READERS)}")
    for file in files:
        check_file(file)


def _local(path: Path, configs: tuple[str, ...], cache: str) -> Iterator[tuple[str, Table]]:
    if path.is_file():
        for _, rows in _built(READERS[path.suffix], data_files={"train": str(path)}, cache_dir=cache):
            yield "train", Table(path.name, rows)
    elif _is_saved(path):
        yield from _named("", _saved(path))
    elif saved := [child for child in sorted(path.iterdir()) if _is_saved(child)]:
        for child in saved:
            if not configs or child.name in configs:
                yield from _named(child.name, _saved(child))
    else:
        names = datasets.get_dataset_config_names(str(path))
        if names == ["default"] and configs and all((path / config).is_dir() for config in configs):
            for config in configs:  # a directory for each configuration, but no README.md that names them
                yield from _named(config, _built(str(path), data_dir=config, cache_dir=cache))
        else:
            for config in _chosen(names, configs, str(path)):
                yield from _named(config, _built(str(path), config, cache_dir=cache))


def _hub(source: str, configs: tuple[str, ...], revision: str) -> Iterator[tuple[str, Table]]:
    at = {"revision": revision or None}
    for config in _chosen(datasets.get_dataset_config_names(source, **at), configs, source):
        yield from _named(config, _built(source, config, **at))


def _built(*names: str, **where) -> Iterator[tuple[str, datasets.Dataset]]:
    """Every split; `load_dataset` itself cannot return one without rows."""
    builder = datasets.load_dataset_builder(*names, **where)
    builder.download_and_prepare()
    for split, info in builder.info.splits.items():
        if info.num_examples:
            yield split, builder.as_dataset(split)
        else:
            features = builder.info.features
            yield split, datasets.Dataset.from_dict({name: [] for name in features}, features=features)


def _saved(path: Path) -> Iterable[tuple[str, datasets.Dataset]]:
    loaded = datasets.load_from_disk(str(path))
    return {"train": loaded}.items() if isinstance(loaded, datasets.Dataset) else loaded.items()


def _named(config: str, splits: Iterable[tuple[str, datasets.Dataset]]) -> Iterator[tuple[str, Table]]:
    prefix = "" if config in ("", "default") else f"{config}/"
    return ((split, Table(prefix + split, rows)) for split, rows in splits)


def _hub_revision(source: str) -> str:
    """The commit that is loaded, "" if the user has switched the network off. Asked with a short time-out, as the
    library itself would try for half a minute."""
    if constants.HF_HUB_OFFLINE:
        return ""
    try:
        return HfApi().dataset_info(source, timeout=HUB_TIMEOUT).sha
    except HfHubHTTPError:
        raise SourceError(
            f"{source}: neither a path here nor a data set that the hub lets this machine read; check the spelling, "
            "or log in with `hf auth login` if the data set needs access rights"
        ) from None
    except Exception as error:  # from whichever HTTP client the hub's library uses
        raise SourceError(
            f"{source}: no such path here, and the hub cannot be reached ({type(error).__name__}); download the data "
            "set on another machine and give its directory as --source, or set HF_HUB_OFFLINE=1 to use a cached copy"
        ) from None


def _chosen(names: list[str], configs: tuple[str, ...], source: str) -> list[str]:
    """The configurations to load: those asked for, else the one called default (it holds all), else all."""
    if configs and set(configs) <= set(names):
        return list(configs)
    if "default" in names:
        return ["default"]
    if configs:
        raise SourceError(f"{source}: no configuration {', '.join(configs)}; found {', '.join(names)}")
    return names


def _is_saved(path: Path) -> bool:
    """Whether `save_to_disk` wrote this directory."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _is_of(feature: object, kind: str) -> bool:
    if kind == OPTIONS:
        named = isinstance(feature, dict) and set(feature) == set(LETTERS)
        return named and all(_is_of(text, TEXT) for text in feature.values())
    dtype = str(getattr(feature, "dtype", ""))
    endings = {TEXT: ("string", "large_string", "string_view"), INTEGER: ("int",), NUMBER: ("int", "float")}[kind]
    return dtype in endings if kind == TEXT else dtype.removeprefix("u").startswith(endings)


def _kinds(error: BaseException) -> str:
    """The types of an error and of its causes, the outermost first."""
    kinds = [type(error).__name__]
    while error := error.__cause__ or error.__context__:
        kinds.append(type(error).__name__)
    return " from ".join(dict.fromkeys(kinds))
