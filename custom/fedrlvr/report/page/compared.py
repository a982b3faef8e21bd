"""A run's page beside other runs: their final scores, and their curves in one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrlvr.report.cells import Table
from fedrlvr.report.compare import comparison, read_summary
from fedrlvr.report.page.charts import Chart, compared_chart, site_colours
from fedrlvr.report.page.events import log_of, read_log
from fedrlvr.report.page.folder import SUMMARY
from fedrlvr.report.summary import summarise


@dataclass(frozen=True)
class Compared:
    table: Table
    chart: Chart | None
    colours: dict[str, int | None]
    left_out: list[str]


def compared(folders: Sequence[Path]) -> Compared:
    """Of these runs, the first is that of the page. Raises NotComparable as `comparison`, ValueError where one has no
    summary, and as `read_log`."""
    summaries = {str(folder): read_summary(folder / SUMMARY) for folder in folders}
    table = comparison(summaries)
    logs = {path: read_log(log_of(Path(path))).events for path, summary in summaries.items() if summary["finished"]}
    names = _names([path for path in summaries if path in logs])
    runs = {names[path]: (events, summarise(events, 0.0)) for path, events in logs.items()}
    left_out = [f"{path} did not finish, and is left out." for path in summaries if path not in logs]
    return Compared(table, compared_chart(runs), site_colours(list(runs)), left_out)


def _names(paths: Sequence[str]) -> Mapping[str, str]:
    """Each run by its folder's name, or by its path where two have the same."""
    names = {path: Path(path).resolve().name for path in paths}
    return names if len({*names.values()}) == len(names) else {path: path for path in paths}
