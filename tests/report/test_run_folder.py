"""What a run leaves: its adapter in any case, and a report as far as it can be made."""

import io
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.runs import some_spec

from fedrlvr.config import LoraSettings
from fedrlvr.launch.prepared_run import PreparedRun
from fedrlvr.peft_folder import Origin, read_origin
from fedrlvr.report import run_folder
from fedrlvr.report.run_folder import INCOMPLETE, report
from fedrlvr.report.screen import Screen
from fedrlvr.server.adapter_folder import write_adapter

SITES = ["site-1", "site-2"]
ADAPTER = {"x.lora_A.weight": torch.ones(2, 3)}


def evaluation(which: str, label: str) -> dict:
    scores = {
        site: {"test": {label: {"problems": 2, "pass@1": 0.5}, "B": {"problems": 1, "pass@1": 1.0}}} for site in SITES
    }
    return {"event": "evaluation", "samples": 4, "which": which, "round": 0, "segment": 0, "scores": scores}


def a_run(label: str = "A") -> list[dict]:
    start = {"event": "start", "method": "pubswap", "sites": SITES, "rounds": 1, "segments": 1, "seed": 0}
    return [start, *(evaluation(which, label) for which in ("base", "local", "global")), {"event": "end"}]


@pytest.fixture
def reported(tmp_path, small_job, capsys):
    """reported(events) -> (whether all could be done, what was shown, what was said on stderr)."""

    def make(events: list[dict]) -> tuple[bool, str, str]:
        server, folder, out = tmp_path / "server", tmp_path / "run", io.StringIO()
        folder.mkdir(exist_ok=True)
        if not (server / "rounds").exists():
            (server / "rounds" / "0").mkdir(parents=True)
            save_file(ADAPTER, server / "rounds" / "0" / "adapter_model.safetensors")
        (server / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        prepared = PreparedRun(folder=folder, spec=some_spec(small_job()), base_model="models/tiny")
        code = report(events, 1.0, server, prepared, Screen(file=out, width=200))
        assert code in (0, INCOMPLETE)
        return code == 0, out.getvalue(), capsys.readouterr().err

    make.folder, make.server = tmp_path / "run", tmp_path / "server"
    return make


def saved(folder) -> bool:
    return torch.equal(load_file(folder / "adapter" / "adapter_model.safetensors")["x.lora_A.weight"], torch.ones(2, 3))


@pytest.mark.parametrize(
    "label", ["A", "[/foo]", "[bold]", ":warning:", "$\\frac{$", "$$", "<b>&amp;", "a | b", "数学"]
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_run_with_any_label_is_reported_to_the_end(reported, label):
    done, shown, said = reported(a_run(label))
    assert (done, said) == (True, "")
    assert f"test, type {label} " in shown
    assert f"adapter:       {reported.folder / 'adapter'}\n" in shown
    assert shown.splitlines()[-1].split() == ["report.html:", f"{reported.folder / 'report.html'}"]
    assert saved(reported.folder)
    assert {path.name for path in reported.folder.iterdir()} == {
        "adapter", "metrics.jsonl", "summary.json", "pass_at_1.png", "report.html"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "left"),
    [
        ("write_page", {"adapter", "metrics.jsonl", "summary.json", "pass_at_1.png", "report.log"}),
        ("draw_run", {"adapter", "metrics.jsonl", "summary.json", "report.log"}),
        ("print_summary", {"adapter", "metrics.jsonl", "summary.json", "report.log"}),
        ("summarise", {"adapter", "metrics.jsonl", "report.log"}),
    ],
)
@pytest.mark.parametrize("error", [RuntimeError("\x1b[2J[/x]\nerror: none"), KeyboardInterrupt()])
def test_whatever_fails_in_the_report_the_adapter_is_there_and_named(reported, monkeypatch, part, left, error):
    def fails(*given, **named):
        raise error

    monkeypatch.setattr(run_folder, part, fails)
    done, shown, said = reported(a_run())
    assert not done
    assert saved(reported.folder)
    assert f"adapter:       {reported.folder / 'adapter'}\n" in shown
    assert {path.name for path in reported.folder.iterdir()} == left
    (line,) = said.splitlines()
    assert line.startswith(f"error: the report of this run is not complete: {type(error).__name__}")
    assert line.endswith(f"; {reported.folder / 'report.log'} has the details")
    assert "\x1b" not in line
    assert "Traceback" in (reported.folder / "report.log").read_text()


@pytest.mark.parametrize(
    "event",
    [
        {"event": "step"},
        {"event": "evaluation"},
        {"event": "evaluation", "which": "global", "round": 0, "segment": 0, "scores": {"site-1": {"test": {}}}},
        {"event": "failure", "site": ["a"], "task": {}, "reason": None},
        {"event": "step", "kind": "public", "swap/completions": "many"},
        {"event": "step", "kind": "private", "verifier/timeouts": float("nan")},
        {"event": "average", "round": 0, "sites": []},
    ],
)
def test_an_event_of_another_form_costs_no_adapter(reported, event):
    done, shown, said = reported([*a_run(), event])
    assert (done, len(said.splitlines())) == (False, 1)
    assert "adapter:       " in shown
    assert saved(reported.folder)


def test_the_best_rounds_adapter_is_kept_beside_the_last(reported):
    """Over two rounds pass@1 falls; then a third one is better than both, and the earlier best one goes."""
    events = a_run()
    for number, score in ((0, 0.5), (1, 0.25)):
        scores = {"site-1": {"test": {"A": {"problems": 4, "pass@1": score}}}}
        place = {"which": "global", "round": number, "segment": number}
        events.append({"event": "evaluation", "samples": 4, **place, "scores": scores})
        kept = reported.server / "rounds" / str(number)
        write_adapter(kept, {"x": torch.full((2, 3), number)}, LoraSettings(), Origin(base_model="m", fingerprint="f"))
    events[0] |= {"rounds": 2, "segments": 2}
    done, shown, said = reported(events)
    assert (done, said) == (True, "")
    assert "best round: 1 of 2, pass@1 0.500 on the test set; after the last one 0.250\n" in shown
    assert f"adapter-best:  {reported.folder / 'adapter-best'}\n" in shown
    for name, value in (("adapter", 1), ("adapter-best", 0)):
        kept = load_file(reported.folder / name / "adapter_model.safetensors")
        assert torch.equal(kept["x"], torch.full((2, 3), value))
        card = (reported.folder / name / "README.md").read_text()
        assert ("| round | 1 of 2: the best round by pass@1 on the test set |" in card) == (name == "adapter-best")
        assert ("| all | 4 | 0.667 (0.30-0.90), of 6 | 0.500 (0.15-0.85) |" in card) == (name == "adapter-best")
        assert ("| all | 4 | 0.667 (0.30-0.90), of 6 | 0.250 (0.05-0.70) |" in card) == (name == "adapter")
    events[-1]["scores"]["site-1"]["test"]["A"]["pass@1"] = 0.75
    assert "best round" not in reported(events)[1]
    assert not (reported.folder / "adapter-best").exists()


def test_the_adapter_names_its_base_model_as_the_job_does_and_no_path_of_this_machine(reported):
    """The fingerprint is the server's, where the job has none; the card has both."""
    write_adapter(reported.server / "rounds" / "0", ADAPTER, LoraSettings(), Origin(base_model="x", fingerprint="f00"))
    done, shown, _ = reported(a_run())
    assert done
    assert "base model:    models/tiny\n" in shown
    folder = reported.folder / "adapter"
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    assert read_origin(folder) == Origin(base_model="tiny", fingerprint="f00")
    card = (folder / "README.md").read_text()
    assert "| base model | `tiny`, fingerprint `f00` |" in card
    assert "| `A` | 4 | 0.500 (0.15-0.85) | 0.500 (0.15-0.85) |" in card
    everything = "".join(path.read_text() for path in folder.iterdir() if path.suffix != ".safetensors")
    assert [word for word in ("models/", "site-1", str(reported.folder)) if word in everything] == []


def test_a_card_that_cannot_be_written_costs_no_adapter(reported, monkeypatch):
    monkeypatch.setattr(run_folder, "model_card", lambda release: 1 / 0)
    done, shown, said = reported(a_run())
    assert (done, "ZeroDivisionError" in said) == (False, True)
    assert saved(reported.folder)
    assert "test, type A " in shown


def test_an_adapter_that_cannot_be_written_is_said_and_the_rest_is_reported(reported, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_adapter", full)
    done, shown, said = reported(a_run())
    assert not done
    assert said == (
        "error: the adapter was not written ([Errno 28] No space left on device); the server's is in "
        f"{reported.server}/rounds\n"
    )
    assert "summary.json:" in shown


def test_a_run_that_stopped_before_it_asked_anybody_has_nothing_to_tell(reported):
    done, shown, said = reported([{"event": "stopped", "reason": "no"}])
    assert (done, said, "summary.json" in shown) == (True, "", False)
