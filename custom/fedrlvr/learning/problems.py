"""A site's problems: its own, and those that all sites share."""

from __future__ import annotations

from dataclasses import dataclass

from fedrlvr.data.problems import manifest_hash, read_problems
from fedrlvr.site_config import SiteConfig
from fedrlvr.tasks import Task
from fedrlvr.types import Problem


@dataclass(frozen=True)
class SiteProblems:
    """The problems that a site trains on and is measured on. `public` is by id."""

    private: list[Problem]
    public: dict[str, Problem]
    test: list[Problem]
    heldout: list[Problem]


def read_site_problems(config: SiteConfig, task: Task, public_sha256: str) -> SiteProblems:
    """Read the site's problem files, and check that the public set is the agreed one.

    Raises:
        ProblemFileError: a file that cannot be used.
        ValueError: the public file's hash is not the job's.
    """
    public = read_problems(config.public_problems, task)
    if manifest_hash(public) != public_sha256:
        raise ValueError(
            f"public_problems: {config.public_problems} has manifest hash {manifest_hash(public)}, "
            f"the job says {public_sha256}; get the public file that the consortium agreed on"
        )
    return SiteProblems(
        private=read_problems(config.private_problems, task),
        public={problem.id: problem for problem in public},
        test=read_problems(config.test_problems, task),
        heldout=read_problems(config.heldout_problems, task) if config.heldout_problems else [],
    )
