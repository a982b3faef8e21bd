"""The results of a comparison as files: one JSON file for each study, and what is written from them.

`publish` writes figures, and the blocks between two marks in Markdown pages. A test holds the pages of this repository
to its results.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedrlvr.comparison.figures import draw_methods, draw_variants
from fedrlvr.comparison.plan import Plan, cells_of
from fedrlvr.comparison.statistics import ByPair, by_variant
from fedrlvr.comparison.tables import headline, pairs_in_words, study_table

Results = Mapping[str, Mapping[str, ByPair]]  # study -> variant -> pair -> record
MARKED = "comparison"  # the name of the part of a page that is written from results
LEFT_OUT = ("settings", "source", "seconds")  # of a record: what says nothing of the result


def write_results(folder: Path, records: Mapping[str, Sequence[dict]]) -> None:
    """One file for each study, a record a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for study, found in records.items():
        kept = ({key: value for key, value in record.items() if key not in LEFT_OUT} for record in found)
        lines = ",\n".join(json.dumps(record) for record in kept)
        (folder / f"{study}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read_results(folder: Path, plan: Plan) -> dict[str, dict[str, ByPair]]:
    """Of every study of the plan that has a file, in the plan's order, variants, too."""
    results = {}
    for name, study in plan.studies.items():
        path = folder / f"{name}.json"
        if path.is_file():
            found = by_variant(json.loads(path.read_text(encoding="utf-8")))
            results[name] = {variant: found[variant] for variant in study.overrides if variant in found}
    return results


def fingerprint(folder: Path, study: str) -> str:
    """Of a study's results: a figure carries that of the results it shows."""
    return hashlib.sha256((folder / f"{study}.json").read_bytes()).hexdigest()[:16]


def draw(plan: Plan, results: Results, results_folder: Path, folder: Path) -> None:
    """A picture of each study: methods beside each other where it has them, else variants."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, variants in results.items():
        study, mark = plan.studies[name], fingerprint(results_folder, name)
        show = draw_methods if "fedavg" in variants else draw_variants
        show(study, variants, folder / f"{name}.png", mark)


def front_block(plan: Plan, results: Results) -> str:
    """The table of the front page: methods by those studies that compare methods."""
    compared = {name: variants for name, variants in results.items() if "fedavg" in variants}
    return headline(plan.studies, compared).markdown() if compared else ""


def studies_block(plan: Plan, results: Results) -> str:
    """Every study: its question, its table, its picture."""
    parts = []
    for name, variants in results.items():
        study = plan.studies[name]
        parts += [
            f"### {study.title}",
            f"{study.question} ({pairs_in_words(study, variants)})",
            study_table(study, variants).markdown(),
            f"![{study.title}](../figures/{name}.png)",
        ]
    return "\n\n".join(parts)


def replace_block(page: str, name: str, block: str) -> str:
    """The page with this text between the marks `<!-- begin: NAME -->` and `<!-- end: NAME -->`. Raises ValueError
    where it has no such marks."""
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"there is no part between {begin} and {end}")
    lines = block and f"{block}\n"
    return pattern.sub(lambda match: f"{match[1]}{lines}{match[2]}", page)


def publish(plan: Plan, records: Mapping[str, Sequence[dict]], folder: Path) -> None:
    """Write results and figures of these studies beside the plan, and the tables of all results that are there into the
    page beside them and the front page, which must have a place for them (`check_pages`). Raises ValueError where a
    study is not complete."""
    for study, found in records.items():
        if len(found) < len(cells_of(plan, [study])):
            raise ValueError(f"{study}: only {len(found)} of {len(cells_of(plan, [study]))} runs are done")
    write_results(folder / "results", records)
    results = read_results(folder / "results", plan)
    draw(plan, results, folder / "results", folder / "figures")
    for page, block in pages(folder).items():
        text = page.read_text(encoding="utf-8")
        page.write_text(replace_block(text, MARKED, block(plan, results)), encoding="utf-8")


def check_pages(folder: Path) -> None:
    """Raises ValueError where a page that shows results is missing, or has no place for them."""
    for page in pages(folder):
        try:
            replace_block(page.read_text(encoding="utf-8"), MARKED, "")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"{page}: tables cannot be written there ({reason}); leave --publish out") from None


def pages(folder: Path) -> dict[Path, Callable[[Plan, Results], str]]:
    """The pages that show results, and what writes their part."""
    return {folder / "results" / "README.md": studies_block, folder.parents[1] / "README.md": front_block}
