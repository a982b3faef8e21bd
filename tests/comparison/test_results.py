"""Tables, figures, pages and the blocks of Markdown that are written from results."""

import re
from pathlib import Path

import pytest
from PIL import Image

from fedrlvr.comparison.page import page
from fedrlvr.comparison.plan import Plan
from fedrlvr.comparison.results import (
    check_pages,
    draw,
    fingerprint,
    front_block,
    pages,
    read_results,
    replace_block,
    studies_block,
    write_results,
)
from fedrlvr.comparison.tables import headline, pairs_in_words, signed, study_table
from fedrlvr.report.means import Mean
from fedrlvr.settings_file import validate_settings


@pytest.fixture
def plan(tmp_path):
    study = {"title": "Skew & more", "question": "Is <it> so?", "preset": "x.yaml"}
    studies = {
        "skew": study | {"methods": ["pubswap", "fedavg"]},
        "rank": study | {"title": "Rank", "variants": {"pubswap": [], "r4": ["lora.r=4"]}},
    }
    values = {"seeds": [10], "base_models": [0], "quick_seeds": [10], "studies": studies}
    return validate_settings(Plan, values, "plan", tmp_path)


@pytest.fixture
def results(plan, records, record, tmp_path):
    others = [record(name, seed, final=end) for name, end in (("pubswap", 0.9), ("r4", 0.8)) for seed in (10, 11)]
    write_results(tmp_path / "results", {"skew": records, "rank": others})
    return read_results(tmp_path / "results", plan)


def test_results_come_back_without_what_says_nothing_of_them(results, records):
    kept = {key: value for key, value in records[0].items() if key not in ("settings", "source", "seconds")}
    assert results["skew"]["pubswap"][0, 10] == kept
    assert list(results) == ["skew", "rank"]


def test_the_table_of_a_study_by_hand(plan, results):
    """fedavg ends at 0.6, 0.6, 0.3: pubswap has these after segments 4, 4 and 2 of 4."""
    lines = study_table(plan.studies["skew"], results["skew"]).markdown().splitlines()
    assert lines[0] == "| variant | pass@1 | worst | pubswap ahead by | had it after | kB sent | answers posted |"
    assert lines[2] == "| `pubswap` | 0.80 ± 0.25 | 0.70 |  |  | 0 | 40 |"
    assert lines[3] == "| `fedavg` | 0.50 ± 0.43 | 0.30 | +0.30 ± 0.25 | 100% / 100% | 0 | 40 |"


def test_the_front_table_has_studies_as_columns(plan, results):
    text = headline(plan.studies, {"skew": results["skew"]}).markdown().splitlines()
    assert text[0] == "| method | Skew & more |"
    runs = "| `runs` | seeds 10 to 12, base model 0 |"
    assert text[2:] == ["| `pubswap` | 0.80 ± 0.25 |", "| `fedavg` | 0.50 ± 0.43 |", runs]


def test_pairs_in_words(plan, results, record):
    study = plan.studies["skew"]
    assert pairs_in_words(study, results["skew"]) == "seeds 10 to 12, base model 0"
    two = {"a": {(1, 3): record(), (2, 5): record()}}
    assert pairs_in_words(study, two) == "seeds 3, 5, base models 1, 2"
    assert pairs_in_words(study.model_copy(update={"real_model": True}), two) == "seeds 3, 5"


def test_every_picture_says_which_results_it_shows(plan, results, tmp_path):
    draw(plan, results, tmp_path / "results", tmp_path / "figures")
    for name in results:
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert picture.text["Results"] == fingerprint(tmp_path / "results", name)
            assert picture.width > 500


def test_the_page_needs_nothing_else_and_shows_text_as_it_is(plan, results, tmp_path):
    draw(plan, results, tmp_path / "results", tmp_path / "figures")
    html = page(plan, results, tmp_path / "figures")
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", html)
    assert html.count("data:image/png;base64,") == 2
    assert "Is &lt;it&gt; so?" in html
    assert "<it>" not in html


def test_a_block_is_replaced_and_nothing_else():
    text = "before\n<!-- begin: x -->\nold\n<!-- end: x -->\nafter <!-- begin: y -->\n"
    assert replace_block(text, "x", r"new \1") == text.replace("old", r"new \1")
    with pytest.raises(ValueError, match="begin: z"):
        replace_block(text, "z", "new")


def test_blocks_have_every_study(plan, results):
    assert studies_block(plan, results).count("![") == 2
    assert front_block(plan, results).startswith("| method | Skew & more |")
    assert Path(plan.studies["skew"].preset).is_absolute()


def test_a_difference_that_is_rounded_to_nothing_has_no_sign():
    assert [signed(Mean.of([value, value])) for value in (-0.004, 0.004, -0.006, 0.3)] == [
        "0.00 ± 0.00",
        "0.00 ± 0.00",
        "-0.01 ± 0.00",
        "+0.30 ± 0.00",
    ]


def test_a_page_without_a_place_for_tables_is_named(tmp_path):
    folder = tmp_path / "jobs" / "mine"
    (folder / "results").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"results.README\.md: tables cannot be written there \(No such file"):
        check_pages(folder)
    for path in pages(folder):
        path.write_text("no place\n")
    with pytest.raises(ValueError, match="there is no part between"):
        check_pages(folder)
