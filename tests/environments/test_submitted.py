"""A preset's labels and quorum, fitted to the sites that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedrlvr.data.experiment import load_experiment
from fedrlvr.environments.submitted import deal_labels

PRESETS = Path(__file__).parents[2] / "app_configs"


@pytest.mark.parametrize(
    ("preset", "count", "dealt", "said"),
    [
        ("demo", 4, [("A",), ("B",), ("C",), ("D",)], 0),
        ("demo", 3, [("A", "D"), ("B",), ("C",)], 2),
        ("demo", 6, [("A",), ("B",), ("C",), ("D",), ("A",), ("B",)], 1),
        ("arithmetic", 3, [("add", "times"), ("take",), ("times", "share")], 0),
        ("arithmetic", 2, [("add", "take"), ("times", "share")], 2),
    ],
)
def test_labels_are_dealt_in_turn_and_whatever_changes_is_said(preset, count, dealt, said):
    experiment = load_experiment(PRESETS / f"{preset}.yaml")
    least, notes = experiment.federation.min_sites, []
    sites = [f"clinic-{number}" for number in range(count)]
    changed = deal_labels(experiment, sites, notes.append)
    assert changed.data.sites == dict(zip(sites, dealt, strict=True))
    assert changed.federation.min_sites == min(least, count)
    assert len(notes) == said
    assert experiment.federation.min_sites == least
