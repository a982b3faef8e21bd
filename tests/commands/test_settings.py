"""`fedrlvr settings`: the reference page is what the models say."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from fedrlvr.cli import main
from fedrlvr.commands.settings import files, kind, reference
from fedrlvr.settings_file import known_keys

PAGE = Path(__file__).parents[2] / "app_configs" / "SETTINGS.md"


@pytest.fixture(scope="module")
def printed() -> str:
    return reference()


def rows(text: str) -> dict[str, list[str]]:
    """{key: [type, default, meaning]} of one file's part."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {key.strip("`"): rest for key, *rest in cells}


def part(printed: str, title: str) -> str:
    """What is printed of one file."""
    return printed.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_page_is_up_to_date(printed):
    before, generated = PAGE.read_text().split("<!-- begin: fedrlvr settings -->\n")
    assert generated == f"{printed}\n<!-- end -->\n", "run the command at the top of SETTINGS.md"
    assert before.startswith("# Every setting\n")


def test_the_command_prints_it(printed, capsys):
    assert main(["settings"]) == 0
    assert capsys.readouterr().out == printed + "\n"


@pytest.mark.parametrize("title", files())
def test_every_setting_has_a_row_and_a_meaning(title, printed):
    text = part(printed, title)
    keys = known_keys(files()[title])
    found = rows(text)
    keys = [key for key in keys if key.rpartition(".")[0] not in found]  # a list of groups has one row
    groups = {key.rsplit(".", 1)[0] for key in keys if "." in key}
    assert set(found) == set(keys) - groups
    for key, (_, _, meaning) in found.items():
        assert meaning[-1] == ".", key
        assert len(meaning) < 120, key
    for group in groups:
        assert f"\n### `{group}`" in text


def test_a_default_that_an_outer_model_sets_is_the_one_shown(printed):
    preset, site = (rows(part(printed, title)) for title in ("A preset", "A site's file"))
    assert preset["site.threads"][1] == "`1`"
    assert site["threads"][1] == "`null`"
    assert site["model_path"][1] == "required"
    assert preset["optimizer.betas"] == ["2 numbers ≥ 0, < 1", "`[0.9, 0.99]`", "Decay rates of AdamW's two moments."]
    assert preset["optimizer.learning_rate"][1] == "`1.0e-05`"


class Sample(BaseModel):
    whole: Annotated[int, Field(ge=1, le=9)]
    open_: Annotated[float, Field(gt=0, lt=1)] | None
    path: Path
    named: Annotated[str, Field(pattern="^[a-z]+$")]
    either: Literal["every"] | tuple[int, ...]
    some: Annotated[tuple[Literal["a", "b"], ...], Field(min_length=1)]
    pair: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
    by_name: Annotated[dict[str, tuple[str, ...]], Field(min_length=1)]
    switch: bool


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("whole", "whole number ≥ 1, ≤ 9"),
        ("open_", "number > 0, < 1"),
        ("path", "path"),
        ("named", "text like `^[a-z]+$`"),
        ("either", "`every` or list of whole numbers"),
        ("some", "list of `a`, `b`, not empty"),
        ("pair", "2 numbers ≥ 0"),
        ("by_name", "mapping of names to list of texts, not empty"),
        ("switch", "`true`, `false`"),
    ],
)
def test_a_type_and_its_bounds_in_words(name, words):
    assert kind(Sample.model_json_schema()["properties"][name]) == words
