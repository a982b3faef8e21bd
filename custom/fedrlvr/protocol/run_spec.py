"""What all participants of a run are told of it: one JSON text, from the lead's preset to every site's worker."""

from typing import Annotated

from pydantic import Field

from fedrlvr.config import JobConfig, Settings
from fedrlvr.protocol.records import Word
from fedrlvr.run import RUN, new_run


class RunSpec(Settings):
    """
    Args:
        job: the algorithm's settings; nothing about any site's files or hardware.
        public_ids: the public problems' ids, in their file's order.
        public_sha256: the hash of the public problems. Every site checks that its own have the same.
        run: the run's name. Server and sites keep their files under it. Default: a new name.
        resume: go on with `run` after its last completed round, in place of an earlier job that did not end well.
        base_model: the fingerprint that every site's model must have; without one, the same at most sites.
    """

    job: JobConfig
    public_ids: Annotated[tuple[str, ...], Field(min_length=1)]
    public_sha256: Word
    run: str = Field(default_factory=new_run, pattern=RUN)
    resume: bool = False
    base_model: Word | None = None
