"""From a data set's problems to the sets of a federation: test, public, and each site's private and held-out set.

No question is in two sets, not even a near-duplicate. The test set keeps its questions first, then the public, the
held-out and the private sets. The choice of test and public problems depends on the seed and each question's own text,
not on the order or number of rows.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Self

from pydantic import Field, model_validator

from fedrlvr.config import Settings
from fedrlvr.data.duplicates import Match, Seen, question_text, shared_turns, without_repeats
from fedrlvr.data.manifest import HELDOUT
from fedrlvr.data.partition import Partition, PreparationError, partition
from fedrlvr.data.sources import Pool
from fedrlvr.types import Message, Problem

Texts = dict[str, Problem]  # by question text, in the seed's order


class Plan(Settings):
    """How many sites and problems there are, and how they are divided. `heldout` is per site. With `shared` the public
    and the test set are given, so they have no size here."""

    sites: int = Field(ge=1)
    partition: Partition = "iid"
    alpha: float | None = Field(None, gt=0)
    public: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)
    heldout: int = Field(0, ge=0)
    overlap: float = Field(0.5, gt=0, le=1)
    seed: int = Field(0, ge=0)
    shared: bool = False

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if (self.partition == "dirichlet") != (self.alpha is not None):
            raise ValueError("alpha: expected with partition dirichlet, and only with it")
        for name in ("public", "test"):
            if self.shared == (getattr(self, name) is not None):
                raise ValueError(f"{name}: expected either a number of problems or a shared set")
        return self


@dataclass
class Prepared:
    """`private` and `heldout` are by site, `removed` counts by reason. `matches` has (id, the similar problem) of each
    problem that was removed for one in another set, `conflicts` the places of each question with several answers."""

    test: list[Problem] = field(default_factory=list)
    public: list[Problem] = field(default_factory=list)
    private: dict[str, list[Problem]] = field(default_factory=dict)
    heldout: dict[str, list[Problem]] = field(default_factory=dict)
    removed: Counter = field(default_factory=Counter)
    matches: list[tuple[str, Match]] = field(default_factory=list)
    conflicts: list[list[str]] = field(default_factory=list)

    def files(self) -> dict[str, list[Problem]]:
        """The sets by the names of their files."""
        heldout = {f"{site}{HELDOUT}": problems for site, problems in self.heldout.items()}
        return {"public": self.public, "test": self.test} | self.private | heldout

    def lacking(self) -> dict[str, list[str]]:
        """Of the public and the test set, the labels that it has no problem of and that sites have problems of."""
        there = {p.label for part in (self.private, self.heldout) for problems in part.values() for p in problems}
        lacks = {"public": there - {p.label for p in self.public}, "test": there - {p.label for p in self.test}}
        return {name: sorted(labels - {""}) for name, labels in lacks.items() if labels - {""}}

    def counts(self) -> dict[str, int]:
        return {name: len(problems) for name, problems in self.files().items()}


def prepare_sets(pool: Pool, plan: Plan, shared: Mapping[str, Sequence[Problem]] | None = None) -> Prepared:
    """Make the sets of a plan. `shared` has the public and the test set if the plan has `shared`. Raises
    PreparationError if there are fewer problems than asked for, and as `partition`."""
    made = Prepared()
    made.removed.update({"bad gold": len(pool.refused), "no single right option": pool.skipped})
    made.removed["two final answers"] = len(pool.two_answers)
    begin_with = shared_turns(chain(pool.train, pool.test or (), *(shared or {}).values()))
    train, test = (_distinct(part or (), begin_with, pool, plan.seed, made) for part in (pool.train, pool.test))
    seen = Seen(plan.overlap)
    if shared:
        made.test, made.public = list(shared["test"]), list(shared["public"])
        for name in ("test", "public"):
            for problem in shared[name]:
                seen.add(name, question_text(problem, begin_with), problem)
    else:
        made.test = _take(plan.test, "test", train if pool.test is None else test, seen, made)
        made.removed["left over in the test split"] += len(test)
        before = {"test": plan.test} if pool.test is None else {}
        made.public = _take(plan.public, "public", train, seen, made, before)
    rest = _unseen(train, seen, made)
    texts, problems = list(rest), list(rest.values())
    if not shared and len(problems) < plan.sites:
        took = _took({"public": plan.public} | before)
        raise PreparationError(
            f"private: {len(problems)} problems are left for {plan.sites} sites{took}, or fewer --sites"
        )
    parts = partition([problem.label for problem in problems], plan.sites, plan.partition, plan.seed, plan.alpha)
    _divide(made, plan, {f"site-{k}": {texts[i]: problems[i] for i in part} for k, part in enumerate(parts, start=1)})
    _check_ids(made, pool)
    made.removed = +made.removed
    return made


def _divide(made: Prepared, plan: Plan, sites: dict[str, Texts]) -> None:
    """Each site's held-out and private set; no private problem is like a held-out problem of any site."""
    seen = Seen(plan.overlap)
    for site, texts in sites.items():
        if len(texts) <= plan.heldout:
            raise PreparationError(
                f"{site}: heldout is {plan.heldout}, but it has {len(texts)} problems in all, and at least one must be "
                f"left to train on{_too_alike(len(made.matches), plan.overlap)}; try a smaller --heldout, fewer "
                "--sites or another --partition"
            )
        if plan.heldout:
            chosen = list(texts)[: plan.heldout]
            made.heldout[site] = [_move(text, texts, "held-out", seen) for text in chosen]
    for site, texts in sites.items():
        made.private[site] = list(_unseen(texts, seen, made).values())
        if not made.private[site]:
            raise PreparationError(
                f"{site}: no problem is left to train on{_too_alike(len(texts), plan.overlap)}; try a smaller --heldout"
            )


def _distinct(
    problems: Iterable[Problem], begin_with: Collection[Message], pool: Pool, seed: int, made: Prepared
) -> Texts:
    kept, repeated, conflicts = without_repeats(problems, pool.same_answer, begin_with)
    made.removed.update({"repeats another": repeated, "conflicting answers": sum(map(len, conflicts))})
    made.conflicts += [[pool.places.get(problem, problem.id) for problem in group] for group in conflicts]
    return dict(sorted(kept.items(), key=lambda item: hashlib.sha256(f"{seed}\n{item[0]}".encode()).digest()))


def _took(before: Mapping[str, int], *asking: str) -> str:
    """What sets got `before`, by their names, and which of them, or of those `asking`, could be smaller."""
    sets = "".join(f"; the {name} set took {count}" for name, count in before.items())
    return f"{sets}; try a smaller {' or '.join(f'--{name}' for name in (*asking, *before))}"


def _take(
    count: int, name: str, texts: Texts, seen: Seen, made: Prepared, before: Mapping[str, int] = MappingProxyType({})
) -> list[Problem]:
    """Move the first `count` problems of `texts` that are not seen yet into `seen`; remove seen ones on the way. An
    error says what other sets took of them `before`."""
    chosen: list[str] = []
    available = len(texts)
    for text in list(texts):
        if len(chosen) == count:
            break
        if _is_seen(text, texts[text], seen, made):
            del texts[text]
        else:
            chosen.append(text)
    if len(chosen) < count:
        raise PreparationError(
            f"{name}: {count} problems asked for, but only {len(chosen)} of the {available} distinct ones can be used"
            f"{_too_alike(available - len(chosen), seen.overlap)}{_took(before, name)}"
        )
    return [_move(text, texts, name, seen) for text in chosen]


def _move(text: str, texts: Texts, name: str, seen: Seen) -> Problem:
    problem = texts.pop(text)
    seen.add(name, text, problem)
    return problem


def _unseen(texts: Texts, seen: Seen, made: Prepared) -> Texts:
    return {text: problem for text, problem in texts.items() if not _is_seen(text, problem, seen, made)}


def _is_seen(text: str, problem: Problem, seen: Seen, made: Prepared) -> bool:
    match = seen.match(text)
    if match:
        made.removed[f"duplicates {match.set_name}"] += 1
        made.matches.append((problem.id, match))
    return match is not None


def _too_alike(count: int, overlap: float) -> str:
    """Why so many problems cannot be used."""
    if not count:
        return ""
    return (
        f"; {count} have at least {overlap:.0%} of their 8-word sequences in common with a problem of another set "
        "(--overlap), as problems have that all begin with the same text: put an instruction and examples into the "
        "preset's prompt.instruction and prompt.examples"
    )


def _check_ids(made: Prepared, pool: Pool) -> None:
    """In files of our own format the owner chose the ids, and each file was checked alone. Check all of them here."""
    places: dict[str, list[str]] = {}
    for problem in (problem for problems in made.files().values() for problem in problems):
        places.setdefault(problem.id, []).append(pool.places.get(problem, "the shared sets"))
    repeated = [" and ".join(there[:2]) for there in places.values() if len(there) > 1]
    if repeated:
        raise PreparationError(
            f"{len(repeated)} ids belong to more than one problem; expected a different id for each; rename them; the "
            f"first is that of {repeated[0]}"
        )
