"""The pages of this repository show the results that are in it."""

import re
from pathlib import Path
from statistics import fmean

import pytest
from PIL import Image

from fedrlvr.comparison.plan import Plan, cells_of
from fedrlvr.comparison.results import MARKED, fingerprint, pages, read_results, replace_block, studies_block
from fedrlvr.comparison.statistics import ahead, check_equal_work, ended, finals
from fedrlvr.settings_file import load_settings

FOLDER = Path(__file__).parents[2] / "jobs" / "compare"
PLAN = load_settings(Plan, FOLDER / "plan.yaml")
RESULTS = read_results(FOLDER / "results", PLAN)


def test_every_study_has_results():
    assert list(RESULTS) == list(PLAN.studies)


@pytest.mark.parametrize("study", RESULTS)
def test_results_are_of_every_run_of_the_plan(study):
    there = {(name, *pair) for name, records in RESULTS[study].items() for pair in records}
    assert there == {(cell.variant, cell.base_model, cell.seed) for cell in cells_of(PLAN, [study])}
    if PLAN.studies[study].equal_work:
        check_equal_work(RESULTS[study])


@pytest.mark.parametrize("page", pages(FOLDER), ids=lambda path: path.parent.name)
def test_pages_say_what_the_results_say(page):
    """If not: `python jobs/compare/job.py --publish`."""
    text = page.read_text(encoding="utf-8")
    assert replace_block(text, MARKED, pages(FOLDER)[page](PLAN, RESULTS)) == text


@pytest.mark.parametrize("study", RESULTS)
def test_pictures_show_the_results(study):
    with Image.open(FOLDER / "figures" / f"{study}.png") as picture:
        assert picture.text["Results"] == fingerprint(FOLDER / "results", study)


@pytest.mark.parametrize("page", [FOLDER / "README.md", FOLDER.parents[1] / "README.md"], ids=["comparison", "front"])
def test_what_pages_say_with_an_interval_is_in_a_table(page):
    prose = re.sub("<!-- begin.*?<!-- end", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    tables = studies_block(PLAN, RESULTS)
    said = re.findall(r"\d\.\d\d\s±\s\d\.\d\d", prose)
    assert said
    assert [one for one in said if " ".join(one.split()) not in tables] == []


def test_the_front_page_says_what_copying_everything_costs():
    text = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"is ahead of `replace-all` by\s+(\S+ ± \S+);\s+with one,\s+by\s+(\S+ ± \S+)\.", text)
    leads = (ahead(RESULTS[s]["pubswap"], RESULTS[s]["replace-all"]) for s in ("wordings", "two-averages"))
    assert said == tuple(map(str, leads))


def test_numbers_without_an_interval_are_those_of_the_results():
    """In the words of the pages."""
    page, front, settings = (
        " ".join(path.read_text(encoding="utf-8").split())
        for path in (
            FOLDER / "README.md",
            FOLDER.parents[1] / "README.md",
            FOLDER.parents[1] / "app_configs" / "README.md",
        )
    )
    slow, often, rank, averaging = (RESULTS[name] for name in ("slow-site", "exchanges", "rank", "averaging"))
    own_type = [fmean(r["matrix"]["averaged"]["D"] for r in slow[name].values()) for name in ("pubswap", "own-pace")]
    for text in (page, front, settings):
        assert f"own type{' then' if text is front else ''} ends {own_type[0] - own_type[1]:.2f} lower" in text
    posted = [fmean(r["posted"] for r in often[name].values()) for name in ("1", "all-16")]
    assert f"{posted[0]:.0f} answers posted, not {posted[1]:.0f}" in page
    assert f"16 ends {ahead(rank['pubswap'], rank['rank-16']).value:.2f} lower" in page
    behind = [ahead(averaging["pubswap"], averaging[name]).value for name in ("rolora", "ffa", "fedprox")]
    assert f"end {min(behind):.2f} to {max(behind):.2f} lower" in page
    assert f"one run of three ends at {min(finals(RESULTS['public-set']['pubswap-8'])):.2f}" in page
    few, many = (_bytes(RESULTS[name]["pubswap"]) for name in ("two-averages", "many-averages"))
    assert f"{many / few:.1f} times as many" in page
    assert f"{many / few:.1f} times the bytes" in front


def _bytes(records) -> float:
    return fmean(record["curve"][-1]["bytes"] for record in records.values())


def test_the_page_of_the_word_problems_says_what_the_results_say():
    records = RESULTS["word-problems"]
    text = (FOLDER.parent / "word_problems" / "README.md").read_text(encoding="utf-8")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    assert {row[0].strip("`") for row in table} == set(records)
    for name, *ends, mean, lead in table:
        own = records[name.strip("`")]
        assert ends == [f"{value:.2f}" for value in finals(own)]
        assert mean == str(ended(own))
        assert lead == ("" if own is records["pubswap"] else str(ahead(records["pubswap"], own)))
