"""The results of a comparison as one HTML file that needs nothing else: to open anywhere, and to send to somebody."""

import base64
from pathlib import Path

from fedrlvr.comparison.plan import Plan
from fedrlvr.comparison.results import Results
from fedrlvr.comparison.tables import pairs_in_words, study_table
from fedrlvr.report.page.html import rendered


def page(plan: Plan, results: Results, figures: Path) -> str:
    """The page; `figures` has a picture NAME.png of each study."""
    studies = [
        {
            "name": name,
            "title": plan.studies[name].title,
            "question": plan.studies[name].question,
            "table": study_table(plan.studies[name], variants),
            "pairs": pairs_in_words(plan.studies[name], variants),
            "picture": base64.b64encode((figures / f"{name}.png").read_bytes()).decode("ascii"),
        }
        for name, variants in results.items()
    ]
    return rendered("comparison.html", Path(__file__).parent, studies=studies)
