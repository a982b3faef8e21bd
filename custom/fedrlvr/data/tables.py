"""The tables of a data set: from the hub, from a directory, from one file.

The `datasets` library says which files of a directory belong to which split, and reads the hub, arrow files and what it
saved itself. Files are checked before. The texts of its errors are not passed on: they are long, and may quote cells.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets.data_files import FILES_TO_IGNORE
from datasets.packaged_modules.csv.csv import CsvConfig
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from pyarrow import parquet

from fedrlvr.data.problems import ProblemFileError
from fedrlvr.data.table import SourceError, Table
from fedrlvr.data.text_tables import TEXT_FILES, read_text_table

READERS = (".parquet", ".arrow", *TEXT_FILES)
HUB_TIMEOUT = 10.0  # seconds to wait for the hub's first answer

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SHARD = re.compile(r"(.*-)([0-9]{5})(-of-)([0-9]{5})(.*)")
_BEGINNINGS = {".parquet": (b"PAR1",), ".arrow": (b"ARROW1", b"\xff\xff\xff\xff")}
_EXPECTED = f"a directory or a file with one of {', '.join(READERS)}, or a hub id such as openai/gsm8k"


@dataclass
class Loaded:
    """The tables by split; a split that was not asked for has none. `unread` names the data files in the directory that
    no split has, or only one that was not asked for. `revision` is the hub's commit, "" for local files."""

    splits: dict[str, list[Table]]
    unread: list[str]
    revision: str = ""


@dataclass(frozen=True)
class Wanted:
    """What to load of a data set: its configurations (all if empty), splits and columns."""

    configs: Collection[str]
    splits: Collection[str]
    columns: Collection[str]


def load_tables(source: str, wanted: Wanted, cache: str) -> Loaded:
    """The tables of a directory, a file or a hub id. Raises SourceError and ProblemFileError where nothing is there, or
    it cannot be reached or read."""
    path, revision = Path(source), ""
    if not path.exists():
        if not _HUB_ID.fullmatch(source) or path.suffix in READERS:
            raise SourceError(f"{source}: no such file or directory; expected {_EXPECTED}")
        revision = _hub_revision(source)
    files = _data_files(path) if path.exists() else []
    splits: dict[str, list[Table]] = {}
    try:
        for split, table in _local(path, wanted, cache) if files else _hub(source, wanted, revision):
            splits.setdefault(split, []).extend([table] if table else [])
    except (SourceError, ProblemFileError):
        raise
    except Exception as error:  # from whatever `datasets` uses: arrow, pandas, the file system, the network
        several = len({kind_of(file) for file in files}) > 1
        remedy = "; put files of one kind alone into a directory" if several else ""
        reason = f"the datasets library cannot read it ({_kinds(error)})"
        raise SourceError(f"{source}: {reason}; expected {_EXPECTED}{remedy}") from None
    read = {table.name for tables in splits.values() for table in tables}
    there = [] if not path.is_dir() or _saved_in(path) else sorted(path.rglob("*"))
    data = [file for file in there if set(file.suffixes) & {*READERS} and file.name not in FILES_TO_IGNORE]
    names = [file.relative_to(path).as_posix() for file in data if file.is_file()]
    return Loaded(splits, [name for name in names if name not in read], revision)


def kind_of(path: Path) -> str:
    """The suffix of a file; of a packed text file that of its content."""
    inner = Path(path.stem).suffix
    return inner if path.suffix == ".gz" and inner in TEXT_FILES else path.suffix


def _data_files(path: Path) -> list[Path]:
    """The data files that a path is or has. Raises SourceError where there is none."""
    if path.is_file():
        files = [path]
    else:
        files = [file for file in sorted(path.rglob("*")) if kind_of(file) in READERS and file.is_file()]
        files = [file for file in files if file.name not in FILES_TO_IGNORE]
    if not files:
        raise SourceError(f"{path}: no data in this directory; expected files with one of {', '.join(READERS)}")
    for match in filter(None, (_SHARD.fullmatch(file.name) for file in files if path.is_dir())):
        if missing := _missing_shard(match, {file.name for file in files}):
            raise SourceError(f"{path}: {missing} is missing, a part of a split; download it again")
    return files


def _missing_shard(shard: re.Match[str], names: Collection[str]) -> str | None:
    """The first file that is not there, of those that the name of one of them counts."""
    others = (f"{shard[1]}{number:05}{shard[3]}{shard[4]}{shard[5]}" for number in range(int(shard[4])))
    return next((name for name in others if name not in names), None)


def check_file(path: Path) -> None:
    """Raises SourceError for an unknown kind of file, an empty file, and what a failed download leaves: a web page, a
    git-lfs pointer, or a part of the file."""
    if kind_of(path) not in READERS:
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


def _local(path: Path, wanted: Wanted, cache: str) -> Iterator[tuple[str, Table | None]]:
    """(split, table) of each file; (split, None) of one that is not wanted."""
    if path.is_file():
        yield "train", _file_table(path, path.name, wanted, cache)
    elif saved := _saved_in(path):
        for child in saved:
            if child == path or not wanted.configs or child.name in wanted.configs:
                for file in child.rglob("*.arrow"):
                    check_file(file)
                yield from _named("" if child == path else child.name, _saved(child), wanted)
    else:
        for builder in _builders(path, wanted.configs, cache):
            for split, files in builder.config.data_files.items():
                for file in map(Path, files):
                    name = file.relative_to(path.resolve()).as_posix()
                    yield str(split), _file_table(file, name, wanted, cache) if split in wanted.splits else None


def _builders(path: Path, configs: Collection[str], cache: str) -> Iterator[datasets.DatasetBuilder]:
    """One for each configuration. They only say which files belong to which split."""
    names = datasets.get_dataset_config_names(str(path))
    if names == ["default"] and configs and all((path / config).is_dir() for config in configs):
        for config in configs:  # a directory for each configuration, but no README.md that names them
            yield datasets.load_dataset_builder(str(path), data_dir=config, cache_dir=cache)
    else:
        for config in _chosen(names, configs, str(path)):
            yield datasets.load_dataset_builder(str(path), config, cache_dir=cache)


def _file_table(path: Path, name: str, wanted: Wanted, cache: str) -> Table:
    """The wanted columns of one file. Raises SourceError as `check_file` for one that the library found."""
    check_file(path)
    kind = kind_of(path)
    if kind in TEXT_FILES:
        return read_text_table(path, name, kind, wanted.columns)
    if kind == ".arrow":
        ((_, rows),) = _built("arrow", data_files={"train": str(path)}, cache_dir=cache)
        return _table(name, rows, wanted)
    names = parquet.read_schema(path).names
    chosen = [column for column in names if column in wanted.columns]
    rows = datasets.Dataset(parquet.read_table(path, columns=chosen))
    return Table(name, rows, dict.fromkeys(names) | rows.features)


def _hub(source: str, wanted: Wanted, revision: str) -> Iterator[tuple[str, Table]]:
    at = {"revision": revision or None}
    for config in _chosen(datasets.get_dataset_config_names(source, **at), wanted.configs, source):
        yield from _named(config, _built(source, config, **at), wanted)


def _built(*names: str, **where) -> Iterator[tuple[str, datasets.Dataset]]:
    """Every split; `load_dataset` itself cannot return one without rows."""
    builder = datasets.load_dataset_builder(*names, **where)
    if isinstance(builder.config, CsvConfig):
        raise SourceError(
            f"{names[0]}: is CSV, where datasets changes cells such as NA and 007; download it, give its directory"
        )
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


def _named(
    config: str, splits: Iterable[tuple[str, datasets.Dataset]], wanted: Wanted
) -> Iterator[tuple[str, Table | None]]:
    prefix = "" if config in ("", "default") else f"{config}/"
    for split, rows in splits:
        yield str(split), _table(prefix + split, rows, wanted) if split in wanted.splits else None


def _table(name: str, rows: datasets.Dataset, wanted: Wanted) -> Table:
    chosen = [column for column in rows.column_names if column in wanted.columns]
    return Table(name, rows.select_columns(chosen), rows.features)


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


def _chosen(names: list[str], configs: Collection[str], source: str) -> list[str]:
    """The configurations to load: those asked for, else the one called default (it holds all), else all."""
    if configs and set(configs) <= set(names):
        return list(configs)
    if "default" in names:
        return ["default"]
    if configs:
        raise SourceError(f"{source}: no configuration {', '.join(configs)}; found {', '.join(names)}")
    return names


def _saved_in(path: Path) -> list[Path]:
    """The directories that `save_to_disk` wrote: this one, or those in it."""
    return [path] if _is_saved(path) else [folder for folder in sorted(path.iterdir()) if _is_saved(folder)]


def _is_saved(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _kinds(error: BaseException) -> str:
    """The types of an error and of its causes, the outermost first."""
    kinds = [type(error).__name__]
    while error := error.__cause__ or error.__context__:
        kinds.append(type(error).__name__)
    return " from ".join(dict.fromkeys(kinds))
