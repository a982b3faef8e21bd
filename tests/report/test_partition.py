"""Label counts by hand; pictures for every number of labels that data sets have."""

import io

import pytest
from matplotlib.image import imread

from fedrlvr.report.partition import draw_partition, label_counts, print_partition
from fedrlvr.report.screen import Screen
from fedrlvr.types import Problem


def problems(**labels: int) -> list[Problem]:
    return [
        Problem(f"{label}{n}", "p", "1", label.replace("none", "")) for label, n in labels.items() for n in range(n)
    ]


SETS = {
    "site-1": problems(geometry=3, algebra=1),
    "site-2": problems(algebra=4),
    "public": problems(geometry=1, none=1),
    "test": problems(logic=1),
}


def numbered(count: int) -> dict[str, list[Problem]]:
    """Label 00 has `count` problems, the last label one."""
    one = problems(**{f"subject_{n:02}": count - n for n in range(count)})
    return {"site-1": one, "site-2": one[:5], "public": one[:3], "test": one[-1:]}


def test_counts_have_every_label_in_the_order_of_all_sets():
    counts = label_counts(SETS)
    assert counts["site-1"] == {"algebra": 1, "geometry": 3, "logic": 0, "no label": 0}
    assert counts["public"] == {"algebra": 0, "geometry": 1, "logic": 0, "no label": 1}
    assert all(list(labels) == ["algebra", "geometry", "logic", "no label"] for labels in counts.values())


@pytest.mark.parametrize(("labels", "shown", "other"), [(20, 20, None), (21, 21, None), (22, 21, 2 + 1), (35, 21, 120)])
def test_beyond_twenty_labels_the_smallest_are_other(labels, shown, other):
    """With 22 labels the last two have two problems and one; with 35, the last fifteen 15 + ... + 1."""
    counts = label_counts(numbered(labels))
    assert len(counts["site-1"]) == shown
    assert counts["site-1"].get("other") == other
    assert counts["site-1"].total() == labels * (labels + 1) // 2
    if other:
        assert list(counts["test"])[-1] == "other"
        assert counts["test"]["other"] == 1


@pytest.mark.parametrize("heldout", [{}, {"site-1": 7, "site-2": 8}])
def test_the_table_has_sizes_and_the_largest_labels(heldout):
    text = io.StringIO()
    sets = SETS | {"site-2": problems(**{"a[b]": 5, "c": 3, "d": 2, "e": 1, "f": 1})}
    print_partition(label_counts(sets), heldout, Screen(file=text, width=120))
    (line,) = (line for line in text.getvalue().splitlines() if "site-2" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["site-2", "12", *(["8"] if heldout else []), "a[b] 5, c 3, d 2 and 2 more"]


@pytest.mark.parametrize(
    "sets", [SETS, {name: problems(none=3) for name in SETS}, numbered(7), numbered(21), numbered(35)]
)
def test_every_number_of_labels_makes_a_picture(tmp_path, sets):
    counts = label_counts(sets)
    draw_partition(counts, {"site-1": 2, "site-2": 3}, "math: 2 sites", tmp_path / "partition.png")
    height, width, _ = imread(tmp_path / "partition.png").shape
    assert width > 100 * min(len(next(iter(counts.values()))), 20) / 2
    assert height > 200


def test_a_dollar_sign_in_a_label_is_no_formula(tmp_path):
    sets = SETS | {"site-1": problems(**{"costs in $x_{$": 3, "$": 2})}
    draw_partition(label_counts(sets), {}, "math", tmp_path / "partition.png")
    assert (tmp_path / "partition.png").stat().st_size > 1000
