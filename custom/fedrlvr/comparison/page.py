"""The results of a comparison as one HTML file that needs nothing else: to open anywhere, and to send to somebody."""

import base64
from html import escape
from pathlib import Path

from fedrlvr.comparison.plan import Plan
from fedrlvr.comparison.results import Results
from fedrlvr.comparison.tables import pairs_in_words, study_table

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { font-weight: 600; line-height: 1.2 } h2 { margin-top: 3rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
td { font-variant-numeric: tabular-nums }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { border-bottom: 2px solid #222; font-weight: 600 }
img { max-width: 100% } p.small { color: #666 } nav a { margin-right: 1rem }
"""
HOW = (
    "Final pass@1 on unseen problems: mean, and 95% t-interval over seeds of the means over base models. Differences "
    'are taken between runs of one seed and base model. "Had it after" are the shares of rounds and of bytes after '
    "which the reference had what the variant ended at, in the median pair."
)


def page(plan: Plan, results: Results, figures: Path) -> str:
    """The page; `figures` has a picture NAME.png of each study."""
    links = "".join(f'<a href="#{name}">{escape(plan.studies[name].title)}</a>' for name in results)
    parts = [f"<h1>Comparison</h1><p>{escape(HOW)}</p><nav>{links}</nav>"]
    for name, variants in results.items():
        study = plan.studies[name]
        parts.append(
            f'<h2 id="{name}">{escape(study.title)}</h2><p>{escape(study.question)}</p>'
            f'{study_table(study, variants).html()}<p class="small">{escape(pairs_in_words(study, variants))}</p>'
            f'<img alt="{escape(study.title)}" src="data:image/png;base64,{_encoded(figures / f"{name}.png")}">'
        )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Comparison</title>'
    body = "".join(parts)
    return f'<!DOCTYPE html><html lang="en"><head>{head}<style>{STYLE}</style></head><body>{body}</body></html>\n'


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
