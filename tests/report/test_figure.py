"""A run's picture, whatever its labels and sites are called and however many there are."""

import pytest
from matplotlib import rc_context
from matplotlib.image import imread

from fedrlvr.report.figure import MOST_LABELS, draw_run
from fedrlvr.report.summary import summarise

NAMES = ["[/foo]", "$\\frac{$", "$x_{", "a_b^c", "%", "#", "\\", "_hidden", "x" * 200, "", "数学"]


def events(labels: list[str], sites: list[str]) -> list[dict]:
    scores = {label: {"problems": 1 + number, "pass@1": 0.5} for number, label in enumerate(labels)}
    start = {"event": "start", "method": "pubswap", "sites": sites, "rounds": 1, "segments": 1, "seed": 0}
    measured = [
        {
            "event": "evaluation",
            "samples": 4,
            "which": which,
            "round": 0,
            "segment": 0,
            "scores": {s: {"test": scores} for s in sites},
        }
        for which in ("base", "local", "global")
    ]
    return [start, *measured]


def drawn(folder, told: list[dict]):
    path = folder / "picture.png"
    draw_run(told, summarise(told, 1.0), path)
    height, width, _ = imread(path).shape
    return height, width


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", NAMES)
def test_a_label_or_a_site_of_any_name_is_drawn(tmp_path, name):
    height, width = drawn(tmp_path, events([name, "B"], [name or "a", "site-2"]))
    assert (height > 300, width) == (True, 1430)


def test_a_user_of_tex_gets_the_same_picture(tmp_path):
    """TeX would read files where a label says so."""
    with rc_context({"text.usetex": True}):
        drawn(tmp_path, events(["\\input{/etc/hostname}", "B"], ["site-1"]))


def test_of_a_thousand_labels_the_largest_are_drawn(tmp_path):
    height, _ = drawn(tmp_path, events([f"topic {n:04}" for n in range(1000)], ["site-1"]))
    assert height == int(130 * (1.2 + 0.3 * MOST_LABELS))
