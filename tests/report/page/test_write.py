"""The page as HTML: of a real run, of a hostile one, and of folders that hold no whole run."""

import json
import shutil
from html.parser import HTMLParser

import pytest
from tests.runs import run_here, spec_of

from fedrlvr.cli import main
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.report.page.html import rendered
from fedrlvr.report.page.write import write_page
from fedrlvr.report.summary import summarise

HOSTILE = "</style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}{% raw %}&lt;"
EMPTY = {"meta", "link", "br", "img", "line", "polyline", "path"}


class Reader(HTMLParser):
    """Elements, attributes and text, as a browser would see them; every element that is opened is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = set(), [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if not self.open or self.open[-1] != "style" else ""


def seen(path) -> Reader:
    text = path.read_text(encoding="utf-8")
    reader = Reader(text)
    assert "script" not in reader.tags
    assert not {name for name, _ in reader.attributes if name.startswith("on")}
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:;" in text
    sources = [value for name, value in reader.attributes if name in ("src", "href", "action", "srcset", "poster")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in sources)
    return reader


def test_a_page_needs_nothing_but_an_event_log(folder, events):
    made = folder(events)
    reader = seen(write_page(made))
    assert (made / "report.html").is_file()
    for words in (
        "finished in 7 s",
        "failed: south in train: out of memory",
        "Not known to the lead",
        "pass@1 at the end",
    ):
        assert words in reader.text
    assert {"table", "svg"} <= reader.tags


def test_hostile_names_labels_and_reasons_are_shown_as_text(folder, events):
    name = HOSTILE[:190]
    renamed = json.loads(json.dumps(events).replace('"north"', json.dumps(name)).replace('"A"', json.dumps(name)))
    for event in renamed:
        if event["event"] == "failure":
            event["reason"] = HOSTILE + "\u202e\x1b[2J\ud800"
    reader = seen(write_page(folder(renamed)))
    assert reader.text.count(name) > 10
    assert HOSTILE in reader.text
    assert "{{ 7*7 }}" in reader.text
    assert not {"\u202e", "\x1b", "\ud800"} & set(reader.text)
    assert {"img", "script"} & reader.tags == set()


def test_a_template_cannot_forget_to_escape(tmp_path):
    (tmp_path / "x.html").write_text("<p title='{{ a }}'>{{ a }}</p>{% for b in [a] %}{{ b }}{% endfor %}")
    text = rendered("x.html", tmp_path, a="<b>'\"&\u202e")
    assert "<b>" not in text
    assert text.count("&lt;b&gt;&#39;&#34;&amp; ") == 3


@pytest.fixture
def real(tmp_path, small_job, site_files):
    """real(name, adapters, **changes of the job) -> the folder of a run in this process, as a job leaves it, and the
    run's events. `adapters` are rules of the first site, which also offers one answer at a time; the other has none."""

    def make(name: str = "run", adapters: dict | None = None, **changes):
        _, sites = site_files({"site-1": ("A",), "site-2": ("B",)})
        folder = tmp_path / name
        shutil.copytree(tmp_path / "data", folder / "data")
        places = {site: {"state_dir": folder / "sites" / site} for site in sites}
        policy = places["site-1"]["policy"] = folder / "sites" / "site-1" / "policy.yaml"
        rules = {"adapters": adapters or {}, "responses": {"max_per_step": 1}}
        SitePolicy(log="egress.jsonl", ledger="ledger.jsonl", **rules).write(policy)
        sites = {site: config.model_copy(update=places[site]) for site, config in sites.items()}
        two = {"federation__rounds": 2, "federation__segments_per_round": 2, "federation__min_sites": 2}
        spec = spec_of(small_job(**two | changes), sites)
        events, local = run_here(folder, spec, sites)
        PreparedRun(folder=folder, spec=spec, base_model="m", sites=sites, environment="local").save()
        shutil.copy(local.server_folder / "metrics.jsonl", folder)
        about = {"job": spec.job.model_dump(mode="json"), "base_model": None, "test_sha256": spec.test_sha256}
        (folder / "summary.json").write_text(json.dumps(summarise(events, 3.0) | about))
        return folder, events

    return make


def test_the_page_of_a_real_run(real):
    folder, events = real()
    swaps = sum(e.get("swap/completions", 0) for e in events)
    reader = seen(write_page(folder))
    told = " ".join(reader.text.split())
    assert f"{swaps:,.0f} of the {swaps:,.0f} swaps that the sites counted." in told
    assert "From the sites' own egress logs, verified" in told
    assert "site-2: it has no policy, and so no log of what left it" in told
    assert "per_step" in told  # the rule that kept answers at site-1
    assert "Public problems side by side" in told
    assert "site-1 wrote" in told
    assert "replaced by site-2" in told
    assert "max_completion_length" in told
    assert "torch" in told
    assert "Not all could be read" not in told


def test_what_a_site_spent_of_its_budget_is_told(real):
    folder, _ = real(adapters={"clip_norm": 1.0, "noise_multiplier": 2.0, "max_epsilon": 40.0})
    told = seen(write_page(folder)).text
    assert "site-1: tiny: epsilon " in told
    assert " of 40 at delta 1e-05" in told


def test_a_run_folder_that_was_moved_has_the_same_page(real, tmp_path):
    folder, _ = real()
    before = write_page(folder).read_text()
    folder = folder.rename(tmp_path / "elsewhere")
    assert write_page(folder).read_text().replace("elsewhere", "run") == before


def test_a_run_that_was_killed_as_it_wrote_is_told_as_far_as_it_came(real, capsys):
    """The server's own log is cut within a line; no summary was written, and a site's log of swaps is cut, too."""
    folder, _ = real()
    for name in ("metrics.jsonl", "summary.json"):
        (folder / name).unlink()
    for path in (folder / "local" / "server" / "metrics.jsonl", folder / "sites" / "site-1" / "completions.jsonl"):
        path.write_bytes(path.read_bytes()[:-30])
    capsys.readouterr()  # of the run itself
    assert main(["report", str(folder)]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"{folder / 'report.html'}\n", "")
    told = seen(folder / "report.html").text
    for words in ("not finished: no event says that it ended", "so it was cut", "the run has left no summary"):
        assert words in told


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("run.json", "{", "does not say what ran (not valid JSON"),
        ("run.json", "[]", "does not say what ran (expected an object"),
        ("run.json", '{"spec": 3}', "run.json: spec"),
        ("summary.json", '{"seconds": "long"}', "summary.json: not the summary of a run of this version"),
        ("data/public.jsonl", "{}\n", "data/public.jsonl, line 1, field"),
    ],
)
def test_a_file_that_cannot_be_read_costs_only_what_it_holds(folder, events, name, text, words):
    made = folder(events)
    (made / name).parent.mkdir(exist_ok=True)
    (made / name).write_text(text)
    told = seen(write_page(made)).text
    assert words in told
    assert "pass@1 at the end" in told


def test_an_egress_log_that_was_edited_is_not_believed(real):
    folder, _ = real()
    log = folder / "sites" / "site-1" / "egress.jsonl"
    log.write_text(log.read_text().replace('"bytes": ', '"bytes": 1', 1))
    told = seen(write_page(folder)).text
    assert "site-1: egress.jsonl: line" in told
    assert "From the sites' own egress logs" not in told


def test_runs_beside_each_other(real, tmp_path, capsys):
    one, _ = real("one")
    other, _ = real("other", method="fedavg")
    out = tmp_path / "page.html"
    assert main(["report", str(one), "--compare", str(other), "--out", str(out)]) == 0
    told = seen(out).text
    assert "pubswap ahead by" in told
    assert not (one / "report.html").exists()
    another, _ = real("another", method="fedavg", seed=1, optimizer__learning_rate=1e-4)
    capsys.readouterr()
    assert main(["report", str(one), "--compare", str(another)]) == 2
    assert "differ in more than method and seed: optimizer.learning_rate" in capsys.readouterr().err
    assert not (one / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RUN/none"], "no such folder"),
        (["RUN"], "holds no metrics.jsonl"),
        (["RUN", "--out", "RUN"], "expected a file in a folder that is there"),
        (["RUN", "--out", "RUN/none/x.html"], "expected a file in a folder that is there"),
    ],
)
def test_what_is_no_run_is_said_in_a_line(tmp_path, capsys, arguments, words):
    assert main(["report", *(word.replace("RUN", str(tmp_path)) for word in arguments)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert words in said.err


def test_a_run_without_a_summary_cannot_be_compared(folder, events, capsys):
    one, other = folder(events), folder(events, "other")
    assert main(["report", str(one), "--compare", str(other)]) == 2
    assert "summary.json: cannot be read" in capsys.readouterr().err
