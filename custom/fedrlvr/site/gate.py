"""The site's gate: every answer goes through it on its way out. What it decides by is in `egress.py`."""

from __future__ import annotations

import logging

from fedrlvr.protocol.answers import (
    Answer,
    Failure,
    ProposeAnswer,
    StepsAnswer,
    SubmitAnswer,
    ValidateAnswer,
)
from fedrlvr.protocol.refused import Refused
from fedrlvr.site.egress import Egress
from fedrlvr.types import Adapter

LOGGER = logging.getLogger(__name__)


def release(
    egress: Egress, task: str, answer: Answer | Failure, tensors: Adapter | None
) -> tuple[Answer | Failure, Adapter | None]:
    """The answer as it may leave, or a failure in its place. It is in the site's log before this returns."""
    place = {"task": task}
    try:
        if isinstance(answer, Failure):
            told = egress.error(answer.reason, answer.would_not, **place)
            return answer.model_copy(update={"reason": told}), None
        place |= {"round": answer.envelope.round, "segment": answer.envelope.segment}
        # How long private steps took tells how many problems were in them, and how long their completions.
        seconds = answer.seconds if egress.policy.metrics.private_steps else 0.0
        answer, tensors = _filtered(egress, answer, tensors, place)
        return answer.model_copy(update={"seconds": seconds}), tensors
    except Refused as reason:
        return refused(task, reason), None


def refused(task: str, reason: Refused) -> Failure:
    LOGGER.error("%s: not released: %s", task, reason)
    return Failure.of(f"refused by the site's privacy policy: {reason}", would_not=True)


def _filtered(egress: Egress, answer: Answer, tensors: Adapter | None, place: dict) -> tuple[Answer, Adapter | None]:
    if isinstance(answer, SubmitAnswer):
        return answer, egress.adapter(tensors or {}, **place)
    if tensors is not None:
        raise _blocked(egress, "tensors beside an answer that has none", place)
    match answer:
        case ProposeAnswer():
            return answer.model_copy(update={"responses": egress.responses(answer.responses, **place)}), None
        case StepsAnswer():
            return answer.model_copy(update={"steps": egress.steps(answer.steps, **place)}), None
        case ValidateAnswer():
            return egress.scores(answer, **place), None
    raise _blocked(egress, "an answer of an unknown kind", place)


def _blocked(egress: Egress, reason: str, place: dict) -> Refused:
    egress.block(reason, **place)
    return Refused(reason)
