"""A sealed folder is complete or counts as absent, whatever happened while it was written or later."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fedrlvr.sealed_folder import (
    SEAL,
    BrokenSeal,
    begin,
    check_seal,
    new_folder,
    seal,
    sealed_folders,
    sweep,
)


def sealed(path: Path, **files: str) -> Path:
    unfinished = begin(path)
    for name, text in (files or {"a": "first file", "b": "second file"}).items():
        (unfinished / name).write_text(text)
    seal(path)
    return path


def content(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.iterdir() if file.name != SEAL}


def test_a_whole_folder_passes_and_nothing_is_left_beside_it(tmp_path):
    path = sealed(tmp_path / "kept")
    check_seal(path)
    assert content(path) == {"a": "first file", "b": "second file"}
    assert list(tmp_path.iterdir()) == [path]


def cut_short(path: Path) -> None:
    os.truncate(path / "b", 4)


def altered(path: Path) -> None:
    (path / "b").write_text("second fils")  # the same length


def missing(path: Path) -> None:
    (path / "b").unlink()


def no_seal(path: Path) -> None:
    (path / SEAL).unlink()


def seal_cut_short(path: Path) -> None:
    os.truncate(path / SEAL, 20)


def seal_of_zeros(path: Path) -> None:
    (path / SEAL).write_bytes(bytes((path / SEAL).stat().st_size))  # as some file systems leave it after a power cut


def seal_of_nothing(path: Path) -> None:
    (path / SEAL).write_text("{}")


def a_file_more(path: Path) -> None:
    (path / "c").write_text("from elsewhere")


def seal_of_another_kind(path: Path) -> None:
    (path / SEAL).write_text('["a", "b"]')


DAMAGES = [
    (cut_short, "b has changed since"),
    (altered, "b has changed since"),
    (missing, "No such file.*b"),
    (no_seal, "No such file.*seal.json"),
    (seal_cut_short, "is incomplete"),
    (seal_of_zeros, "is incomplete"),
    (seal_of_nothing, "was not there when the folder was sealed"),
    (a_file_more, "c was not there when the folder was sealed"),
    (seal_of_another_kind, "is incomplete"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_every_damage_is_noticed_and_the_file_named(tmp_path, damage, message):
    path = sealed(tmp_path / "kept")
    damage(path)
    with pytest.raises(BrokenSeal, match=message):
        check_seal(path)


def test_a_missing_folder_is_incomplete(tmp_path):
    with pytest.raises(BrokenSeal, match="is incomplete"):
        check_seal(tmp_path / "never")


def test_an_older_folder_is_replaced_whole(tmp_path):
    sealed(tmp_path / "kept", a="old", gone="old")
    path = sealed(tmp_path / "kept", a="new")
    check_seal(path)
    assert content(path) == {"a": "new"}


def test_until_it_is_sealed_the_older_one_stays(tmp_path):
    path = sealed(tmp_path / "kept", a="old")
    (begin(path) / "a").write_text("new")
    check_seal(path)
    assert content(path) == {"a": "old"}
    assert sealed_folders(tmp_path) == [path]


def test_what_an_unfinished_write_left_does_not_get_into_the_next(tmp_path):
    (begin(tmp_path / "kept") / "leftover").write_text("half")
    path = sealed(tmp_path / "kept", a="new")
    assert content(path) == {"a": "new"}


def test_folders_come_by_name_and_files_or_unfinished_ones_are_none(tmp_path):
    paths = [sealed(tmp_path / name) for name in ("b", "a", "c-2")]
    begin(tmp_path / "d")
    (tmp_path / "e").write_text("a file")
    assert sealed_folders(tmp_path) == sorted(paths)
    assert sealed_folders(tmp_path / "never") == []


def test_what_was_never_sealed_can_be_swept_away(tmp_path):
    path = sealed(tmp_path / "kept")
    (begin(path) / "a").write_text("half")
    (begin(tmp_path / "other") / "a").write_text("half")
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    check_seal(path)


def test_a_disk_that_is_full_leaves_the_older_one(tmp_path):
    """The kernel refuses to let any file grow beyond 10 bytes: the seal itself cannot be written."""
    path = sealed(tmp_path / "kept", a="old")
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from fedrlvr.sealed_folder import begin, seal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        path = Path(sys.argv[1])
        (begin(path) / "a").write_text("new")
        try:
            seal(path)
        except OSError as error:
            print(type(error).__name__, error.strerror)
    """)
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "OSError File too large", done.stderr
    check_seal(path)
    assert content(path) == {"a": "old"}


def test_a_plain_file_in_the_place_of_the_folder_is_an_error_and_stays(tmp_path):
    (tmp_path / "kept").write_text("somebody's")
    (begin(tmp_path / "kept") / "a").write_text("new")
    with pytest.raises(OSError, match="kept"):
        seal(tmp_path / "kept")
    assert (tmp_path / "kept").read_text() == "somebody's"


def test_the_seal_holds_every_files_hash(tmp_path):
    path = sealed(tmp_path / "kept", a="abc")
    sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert json.loads((path / SEAL).read_text()) == {"a": sha256_of_abc}


def _copy_half(folder: Path) -> None:
    (folder / "file").write_text("half")
    (folder / "missing").read_text()


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path):
    out = tmp_path / "a" / "out"
    with pytest.raises(FileNotFoundError), new_folder(out) as folder:
        _copy_half(folder)
    assert list((tmp_path / "a").iterdir()) == []
    out.mkdir()  # an empty directory is nothing
    with new_folder(out) as folder:
        (folder / "file").write_text("whole")
        assert list(out.iterdir()) == []
    assert (out / "file").read_text() == "whole"
    assert list((tmp_path / "a").iterdir()) == [out]


def test_a_folder_or_file_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    for taken in (tmp_path / "out", tmp_path / "out" / "old"):
        with pytest.raises(ValueError, match="exists already"), new_folder(taken):
            pytest.fail("it was opened")
    out = tmp_path / "late"
    with pytest.raises(ValueError, match="exists already"), new_folder(out):
        (out / "others").mkdir(parents=True)  # another run was quicker
    assert [path.name for path in out.iterdir()] == ["others"]
