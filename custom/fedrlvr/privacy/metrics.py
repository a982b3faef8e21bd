"""Which of a site's numbers may leave: metrics of its steps, and scores of its evaluations."""

from __future__ import annotations

from fedrlvr.privacy.guards import Refused
from fedrlvr.privacy.policy import MetricRules
from fedrlvr.privacy.reports import check_scores, check_spec, check_steps

STEPS, SCORES = {"metrics"}, {"scores", "adapter_spec"}


def allowed_metrics(data: object, rules: MetricRules) -> tuple[dict, dict[str, int]]:
    """The part of a METRICS answer that may leave, and how many records or labels each rule took out of it.

    Raises:
        Refused: anything but step records, or scores with the adapter's shapes.
    """
    if not isinstance(data, dict):
        raise Refused("metrics must be a mapping")
    if set(data) == STEPS:
        records = check_steps(data)
        kept = [record for record in records if rules.private_steps or record["kind"] == "public"]
        return {"metrics": kept}, {"private_steps": len(records) - len(kept)}
    if set(data) == SCORES:
        scores, spec = dict(check_scores(data)), check_spec(data)
        heldout = scores.pop("heldout", {})
        told = _told(heldout, rules)
        return {"scores": scores | ({"heldout": told} if told else {}), "adapter_spec": spec}, {
            "heldout": len(heldout) - len(told)
        }
    raise Refused("an answer with numbers may hold metrics, or scores and adapter_spec, and nothing else")


def _told(heldout: dict, rules: MetricRules) -> dict:
    if rules.heldout == "by_label" or not heldout:
        return heldout
    if rules.heldout == "none":
        return {}
    problems = sum(scores["problems"] for scores in heldout.values())
    names = {name for scores in heldout.values() for name in scores} - {"problems"}
    means = {
        name: sum(scores.get(name, 0.0) * scores["problems"] for scores in heldout.values()) / problems
        for name in sorted(names)
    }
    return {"all": {"problems": problems, **means}}
