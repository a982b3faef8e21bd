"""The pages that map names and messages: both sides of every row are there."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from peft import LoraConfig
from trl import GRPOConfig

from fedrlvr.launch.experiment import ExperimentConfig
from fedrlvr.other_names import OTHER_NAMES
from fedrlvr.settings_file import known_keys
from fedrlvr.site_config import SiteConfig

ROOT = Path(__file__).parents[1]
NAMES = (ROOT / "app_configs" / "NAMES.md").read_text()
MESSAGES = (ROOT / "jobs" / "TROUBLESHOOTING.md").read_text()


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the tables under a heading."""
    part = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def known(name: str) -> bool:
    return name in known_keys(ExperimentConfig) + known_keys(SiteConfig) or name.startswith("--")


def test_trls_names_are_trls_and_ours_are_settings():
    table = rows(NAMES, "TRL's arguments, and ours")[1:]
    trl, ours = ([name for row in table for name in named(row[place])] for place in (0, 1))
    assert len(trl) > 25
    assert set(trl) <= {field.name for field in fields(GRPOConfig)}
    assert [name for name in ours if not known(name)] == []


def test_an_error_message_knows_the_names_of_the_page():
    parts = ("TRL's arguments, and ours", "PEFT's and FLARE's, and ours")
    table = [row for part in parts for row in rows(NAMES, part)[1:]]
    told = {name: next(iter(named(row[1])), None) for row in table for name in named(row[0])}
    assert told == OTHER_NAMES


def test_what_is_called_as_in_trl_is_a_field_there_and_a_setting_here():
    same = named(NAMES.split("and mean the same:")[1].split(". A test")[0])
    assert len(same) == 15
    for name in same:
        assert name in {field.name for field in fields(GRPOConfig)}
        assert known(f"grpo.{name}")
    left = {key.removeprefix("grpo.") for key in known_keys(ExperimentConfig) if key.startswith("grpo.")} - set(same)
    assert left.isdisjoint({field.name for field in fields(GRPOConfig)} - {"grpo"}), "said to be called otherwise"


def test_pefts_names_are_pefts():
    table = rows(NAMES, "PEFT's and FLARE's, and ours")[1:]
    peft = [name for row in table for name in named(row[0])]
    flare = {"num_rounds", "min_clients", "initial_ckpt"}
    assert set(peft) - flare <= {field.name for field in fields(LoraConfig)}
    assert [name for row in table for name in named(row[1]) if not known(name)] == []


SOURCE = " ".join(re.sub(r'"\s*\n\s*f?"', "", path.read_text()) for path in (ROOT / "custom" / "fedrlvr").rglob("*.py"))


@pytest.mark.parametrize("heading", ["Before it starts", "While it runs", "After it"])
def test_every_message_is_one_of_ours(heading):
    messages = [part for row in rows(MESSAGES, heading)[1:] for part in named(row[0])]
    assert len(messages) >= 4
    assert [part for part in messages if part not in SOURCE] == []
