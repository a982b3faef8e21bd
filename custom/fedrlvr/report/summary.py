"""A run's events as one dictionary, the content of `summary.json`. Pure, so that it can be checked by hand."""

import platform
from collections import Counter
from collections.abc import Iterable, Sequence

from fedrlvr.algorithms.methods import METHODS
from fedrlvr.algorithms.scores import Scores, merge_scores, overall, pass_at_1
from fedrlvr.report.incidents import incidents
from fedrlvr.report.learning import learning_by_site
from fedrlvr.server.event_log import payloads
from fedrlvr.version import installed, source_hash

SENT = {  # what `payloads` counts, in words
    "adapter/bytes_up": "adapters up",
    "adapter/bytes_down": "adapters down",
    "exchange/bytes_up": "answers up",
    "exchange/bytes_down": "answers down",
}
MEASURED_ON = {"heldout": "the sites' held-out problems", "test": "the test set"}  # by `best`'s field
PACKAGES = ("fedrlvr", "nvflare", "torch", "transformers", "peft", "deepspeed", "math-verify", "numpy")


def evaluations(events: Iterable[dict], which: str) -> list[dict]:
    return [event for event in events if event["event"] == "evaluation" and event["which"] == which]


def merged_test(evaluation: dict) -> Scores:
    """Scores on the whole test set. Each site measured its part of it."""
    return merge_scores(part["test"] for part in evaluation["scores"].values())


def at_the_end(summary: dict) -> list[tuple[str, dict[str, float]]]:
    """Whose, and pass@1 by label: of every site's own adapter after the last round that was measured, and of the
    average."""
    own = summary["before_averaging"][-1]["pass@1"] if summary["before_averaging"] else {}
    average = [("averaged", last["pass@1"]) for last in summary["after_averaging"][-1:]]
    return [*own.items(), *average]


def summarise(events: Sequence[dict], wall_seconds: float) -> dict:
    """What a reader of a run asks first; a run that stopped early is summarised as far as it got."""
    start: dict = {}
    for event in events:
        if event["event"] in ("start", "resumed"):  # a run may have been resumed for more rounds
            start |= event
    end = next((event for event in events if event["event"] == "end"), {})
    averaged = METHODS[start["method"]].average
    base = evaluations(events, "base")
    finals = evaluations(events, "global" if averaged else "local")
    per_round = start["segments"] // start["rounds"]
    local = [e for e in evaluations(events, "local") if (e["segment"] + 1) % per_round == 0]
    return {
        **{key: start[key] for key in ("method", "seed", "sites", "rounds", "segments")},
        "finished": bool(end),
        "base": _scores(base[-1]) if base else None,
        "final": _scores(finals[-1]) if finals else None,
        "before_averaging": [
            {"round": e["round"], "pass@1": {site: pass_at_1(part["test"]) for site, part in e["scores"].items()}}
            for e in local
        ],
        "measured": _measured(local),
        "after_averaging": [
            {"round": e["round"], "pass@1": pass_at_1(merged_test(e))} for e in evaluations(events, "global")
        ],
        "best": best_round(events),
        "averaged": [{"round": e["round"], "sites": len(e["sites"])} for e in events if e["event"] == "average"],
        "bytes": _bytes(events),
        "swap": _swap(events),
        "verifier": {"timeouts": int(sum(e.get("verifier/timeouts", 0) for e in events if e["event"] == "step"))},
        "learning": learning_by_site(events),
        "drift": [{k: v for k, v in e.items() if k.startswith("drift/")} for e in events if e["event"] == "average"],
        **incidents(events),
        "seconds": _seconds(end, wall_seconds),
        "versions": {"python": platform.python_version(), "source": source_hash()}
        | {name: installed(name) for name in PACKAGES},
    }


def best_round(events: Sequence[dict]) -> dict | None:
    """The round with the best average: by pass@1 on the sites' own held-out problems where some are measured after
    every round, else on the test set; of equals the last. `last` is the score after the last round. None where nothing
    was averaged."""
    after = evaluations(events, "global")
    if not after:
        return None
    with_heldout = [any("heldout" in part for part in e["scores"].values()) for e in after]
    on = "heldout" if all(with_heldout) else "test"
    scores = {e["round"]: overall(*(part.get(on, {}) for part in e["scores"].values()))["pass@1"] for e in after}
    best = max(scores, key=lambda number: (scores[number], number))
    return {"round": best, "measured_on": on, "pass@1": scores[best], "last": scores[max(scores)]}


def _measured(local: Sequence[dict]) -> dict:
    """On how many problems of each label a site's own adapter was measured last, and with how many completions."""
    if not local:
        return {"problems": {}, "samples": 0}
    sites = local[-1]["scores"].values()
    counts = {label: int(part["problems"]) for scores in sites for label, part in scores["test"].items()}
    return {"problems": counts, "samples": local[-1]["samples"]}


def _scores(evaluation: dict) -> dict:
    heldout = {site: overall(part["heldout"]) for site, part in evaluation["scores"].items() if "heldout" in part}
    scores = {"test": merged_test(evaluation), "samples": evaluation["samples"]}
    return scores | ({"heldout": heldout} if heldout else {}) | answer_shares(evaluation)


def answer_shares(evaluation: dict) -> dict[str, float]:
    """Of all sites' completions of test problems, the shares that had no answer, and that were cut off."""
    parts = evaluation["scores"].values()
    counts = [sum(label["problems"] for label in part["test"].values()) for part in parts]

    def mean(name: str) -> float:
        return sum(part.get(name, 0.0) * n for part, n in zip(parts, counts, strict=True)) / max(sum(counts), 1)

    return {"unanswered": mean("unanswered"), "cut_off": mean("cut_off")}


def _bytes(events: Sequence[dict]) -> dict:
    """Payload bytes over the whole run, all sites together."""
    total: Counter[str] = Counter()
    for what, _, count in (payload for event in events for payload in payloads(event)):
        total[what] += count
    return {
        name: {way: total[f"{kind}/bytes_{way}"] for way in ("down", "up")}
        for name, kind in (("adapter", "adapter"), ("responses", "exchange"))
    }


def _swap(events: Sequence[dict]) -> dict:
    public = [e for e in events if e["event"] == "step" and e["kind"] == "public" and "swap/completions" in e]

    def total(*names: str) -> int:
        return int(sum(event.get(name, 0) for event in public for name in names))

    return {
        "public_steps": len(public),
        "fraction": total("swap/completions") / max(total("completions"), 1),
        "all_wrong_groups": total("swap/all_wrong_groups"),
        "rescued_groups": total("swap/rescued_groups"),
        "rejected_answers": total("exchange/wrong", "exchange/unknown_prompt"),
    }


def _seconds(end: dict, wall_seconds: float) -> dict:
    """`compute`: a site's mean time at work. `waiting`: the rest of the time with tasks out (transport, other sites).
    `start_and_stop`: the time before the first task and after the last."""
    asking = end.get("asking_seconds", 0.0)
    per_site = end.get("site_seconds", {})
    compute = sum(per_site.values()) / len(per_site) if per_site else 0.0
    return {
        "wall": wall_seconds,
        "compute": compute,
        "waiting": asking - compute,
        "start_and_stop": wall_seconds - asking,
    }
