"""Which answers to public problems may leave a site: rules are tried in turn, and an answer that breaks one is dropped.

Nothing is mended. What passes is released as it was; some rules look at a normalised form of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fedrlvr.privacy.overlap import PrivateIndex
from fedrlvr.privacy.pii import Names, personal_data
from fedrlvr.privacy.policy import ResponseRules
from fedrlvr.privacy.text import hides_something, plain
from fedrlvr.protocol.records import PublicResponse


@dataclass(frozen=True)
class Context:
    """What the rules need to know besides. `verify` says whether an answer is right, by the site's own verifier;
    `asked_ids` are the problems of the step under way; `released_in_job` answers have left already."""

    asked_ids: frozenset[str]
    verify: Callable[[PublicResponse], bool]
    index: PrivateIndex
    released_in_job: int = 0
    names: Names | None = None
    presidio: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class FilteredResponses:
    """`kept` may leave, in the order it came; `dropped` counts the others by the first rule that each broke."""

    kept: list[PublicResponse]
    dropped: dict[str, int]


Rule = Callable[[PublicResponse, ResponseRules, Context], bool]  # True: the answer breaks it


def filter_responses(responses: Sequence[PublicResponse], rules: ResponseRules, context: Context) -> FilteredResponses:
    """Apply every rule to every answer.

    The caps on numbers come last, so that an answer which may not leave takes no place from one that may.
    """
    dropped = dict.fromkeys((*RULES, *CAPS), 0)
    passed = []
    for response in responses:
        broken = next((name for name, breaks in RULES.items() if breaks(response, rules, context)), None)
        if broken is None:
            passed.append(response)
        else:
            dropped[broken] += 1
    kept = []
    for response, broken in _capped(passed, rules, context.released_in_job):
        if broken is None:
            kept.append(response)
        else:
            dropped[broken] += 1
    return FilteredResponses(kept, dropped)


def _capped(
    responses: Sequence[PublicResponse], rules: ResponseRules, released_in_job: int
) -> Iterator[tuple[PublicResponse, str | None]]:
    """Each answer with the cap that it exceeds, None if none."""
    seen: set[tuple] = set()
    of_prompt: Counter = Counter()
    in_step = 0
    for response in responses:
        content = (response.problem_id, response.variant, " ".join(plain(response.text).split()))
        if content in seen:
            yield response, "duplicate"
        elif of_prompt[response.problem_id] >= rules.max_per_prompt:
            yield response, "per_prompt"
        elif in_step >= rules.max_per_step:
            yield response, "per_step"
        elif rules.max_per_job is not None and released_in_job + in_step >= rules.max_per_job:
            yield response, "per_job"
        else:
            seen.add(content)
            of_prompt[response.problem_id] += 1
            in_step += 1
            yield response, None


def _not_shared(response: PublicResponse, rules: ResponseRules, context: Context) -> bool:
    return not rules.share


def _not_asked(response: PublicResponse, rules: ResponseRules, context: Context) -> bool:
    return response.problem_id not in context.asked_ids


def _not_right(response: PublicResponse, rules: ResponseRules, context: Context) -> bool:
    return not context.verify(response)


def _length(response: PublicResponse, rules: ResponseRules, context: Context) -> bool:
    return len(response.text) > rules.max_length


def _unicode(response: PublicResponse, rules: ResponseRules, context: Context) -> bool:
    return hides_something(response.text)


def _overlap(response: PublicResponse, rules: ResponseRules, context: Context) -> bool:
    return context.index.shared(response.text) > rules.max_shared_ngrams


def _pii(response: PublicResponse, rules: ResponseRules, context: Context) -> bool:
    text = response.text
    found = personal_data(text, rules.pii, rules.phone_regions, context.names)
    return bool(found) or (context.presidio is not None and context.presidio(text))


RULES: dict[str, Rule] = {
    "not_shared": _not_shared,
    "public_id": _not_asked,
    "length": _length,  # before anything that reads the text
    "verified": _not_right,
    "unicode": _unicode,
    "overlap": _overlap,
    "pii": _pii,
}
CAPS = ("duplicate", "per_prompt", "per_step", "per_job")
