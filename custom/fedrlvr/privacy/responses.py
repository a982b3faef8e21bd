"""Which answers to public problems may leave a site: one rule after the other, an answer that breaks one is dropped.

Nothing is mended. What passes is released as it was; some rules look at a normalised form of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fedrlvr.privacy.guards import Refused
from fedrlvr.privacy.overlap import PrivateIndex
from fedrlvr.privacy.pii import Names, personal_data
from fedrlvr.privacy.policy import ResponseRules
from fedrlvr.privacy.text import hides_something, plain


@dataclass(frozen=True)
class Context:
    """What the rules need to know besides. `verify` says whether (problem id, text, variant) is right, by the site's
    own verifier; `asked_ids` are the problems of the step under way; `released_in_job` answers have left already."""

    public_ids: frozenset[str]
    asked_ids: frozenset[str]
    variants: int
    verify: Callable[[str, str, int], bool]
    index: PrivateIndex
    released_in_job: int = 0
    names: Names | None = None
    presidio: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class FilteredResponses:
    """`kept` may leave, in the order it came; `dropped` counts the others by the first rule that each broke."""

    kept: list[dict]
    dropped: dict[str, int]


Rule = Callable[[dict, ResponseRules, Context], bool]  # True: the answer breaks it


def filter_responses(records: object, rules: ResponseRules, context: Context) -> FilteredResponses:
    """Apply every rule to every answer.

    The caps on numbers come last, so that an answer which may not leave takes no place from one that may.

    Raises:
        Refused: `records` is no list of mappings.
    """
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise Refused("responses must be a list of mappings")
    dropped = dict.fromkeys((*RULES, *CAPS), 0)
    passed = []
    for record in records:
        broken = next((name for name, breaks in RULES.items() if breaks(record, rules, context)), None)
        if broken is None:
            passed.append(record)
        else:
            dropped[broken] += 1
    kept = []
    for record, broken in _capped(passed, rules, context.released_in_job):
        if broken is None:
            kept.append(record)
        else:
            dropped[broken] += 1
    return FilteredResponses(kept, dropped)


def _capped(records: Sequence[dict], rules: ResponseRules, released_in_job: int) -> Iterator[tuple[dict, str | None]]:
    """Each answer with the cap that it exceeds, None if none."""
    seen: set[tuple] = set()
    of_prompt: Counter = Counter()
    in_step = 0
    for record in records:
        content = (record["problem_id"], record["variant"], " ".join(plain(record["text"]).split()))
        if content in seen:
            yield record, "duplicate"
        elif of_prompt[record["problem_id"]] >= rules.max_per_prompt:
            yield record, "per_prompt"
        elif in_step >= rules.max_per_step:
            yield record, "per_step"
        elif rules.max_per_job is not None and released_in_job + in_step >= rules.max_per_job:
            yield record, "per_job"
        else:
            seen.add(content)
            of_prompt[record["problem_id"]] += 1
            in_step += 1
            yield record, None


def _not_shared(record: dict, rules: ResponseRules, context: Context) -> bool:
    return not rules.share


def _schema(record: dict, rules: ResponseRules, context: Context) -> bool:
    return not (
        set(record) == {"problem_id", "text", "variant"}
        and isinstance(record["problem_id"], str)
        and isinstance(record["text"], str)
        and type(record["variant"]) is int
        and 0 <= record["variant"] < context.variants
    )


def _public_id(record: dict, rules: ResponseRules, context: Context) -> bool:
    return record["problem_id"] not in context.public_ids & context.asked_ids


def _verified(record: dict, rules: ResponseRules, context: Context) -> bool:
    return not context.verify(record["problem_id"], record["text"], record["variant"])


def _length(record: dict, rules: ResponseRules, context: Context) -> bool:
    return len(record["text"]) > rules.max_length


def _unicode(record: dict, rules: ResponseRules, context: Context) -> bool:
    return hides_something(record["text"])


def _overlap(record: dict, rules: ResponseRules, context: Context) -> bool:
    return context.index.shared(record["text"]) > rules.max_shared_ngrams


def _pii(record: dict, rules: ResponseRules, context: Context) -> bool:
    text = record["text"]
    found = personal_data(text, rules.pii, rules.phone_regions, context.names)
    return bool(found) or (context.presidio is not None and context.presidio(text))


RULES: dict[str, Rule] = {
    "not_shared": _not_shared,
    "schema": _schema,
    "public_id": _public_id,
    "length": _length,  # before anything that reads the text
    "verified": _verified,
    "unicode": _unicode,
    "overlap": _overlap,
    "pii": _pii,
}
CAPS = ("duplicate", "per_prompt", "per_step", "per_job")
