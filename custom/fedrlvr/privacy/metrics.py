"""Which of a site's numbers may leave: metrics of its steps, and scores of its evaluations."""

from __future__ import annotations

from fedrlvr.algorithms.scores import overall
from fedrlvr.privacy.guards import Refused
from fedrlvr.privacy.policy import MetricRules
from fedrlvr.privacy.reports import check_base_model, check_scores, check_spec, check_steps

STEPS, SCORES = {"metrics"}, {"scores", "adapter_spec", "base_model"}


def allowed_metrics(data: object, rules: MetricRules) -> tuple[dict, dict[str, int]]:
    """The part of a METRICS answer that may leave, and how many records or labels each rule took out of it.

    Raises:
        Refused: anything but step records, or scores with the adapter's shapes and the base model's fingerprint.
    """
    if not isinstance(data, dict):
        raise Refused("metrics must be a mapping")
    if set(data) == STEPS:
        return _allowed_steps(data["metrics"], rules)
    if set(data) == SCORES:
        return _allowed_scores(data, rules)
    raise Refused("an answer with numbers may hold metrics, or scores, adapter_spec and base_model, and nothing else")


def _allowed_steps(records: object, rules: MetricRules) -> tuple[dict, dict[str, int]]:
    """What stays is taken out before anything is looked at: a refusal for its sake would tell of it."""
    if not isinstance(records, list):
        raise Refused("metrics must be a list of step records")
    kept = [r for r in records if rules.private_steps or not (isinstance(r, dict) and r.get("kind") == "private")]
    return {"metrics": check_steps({"metrics": kept})}, {"private_steps": len(records) - len(kept)}


def _allowed_scores(data: dict, rules: MetricRules) -> tuple[dict, dict[str, int]]:
    scores, about = data["scores"], {"adapter_spec": check_spec(data), "base_model": check_base_model(data)}
    heldout: dict = {}
    if isinstance(scores, dict) and rules.heldout == "none":
        heldout = scores.get("heldout", {})
        scores = {name: part for name, part in scores.items() if name != "heldout"}
    scores = dict(check_scores({"scores": scores}))
    heldout = scores.pop("heldout", heldout)
    told = _told(heldout, rules)
    allowed = {"scores": scores | ({"heldout": told} if told else {}), **about}
    return allowed, {"heldout": len(heldout) - len(told)}


def _told(heldout: dict, rules: MetricRules) -> dict:
    if rules.heldout == "by_label" or not heldout:
        return heldout
    if rules.heldout == "none":
        return {}
    return {"all": overall(heldout)}
