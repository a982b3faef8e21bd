"""What all participants of a run are told of it: one JSON text, from the lead's preset to every site's worker."""

from secrets import token_hex
from typing import Annotated, Self

from pydantic import Field, model_validator

from fedrlvr.config import JobConfig, Settings
from fedrlvr.protocol.records import MAX_ASKED, MAX_POOLED, Name, Word
from fedrlvr.run import RUN
from fedrlvr.task_package import TaskPackage


class RunSpec(Settings):
    job: JobConfig  # the algorithm's settings; nothing about any site's files or hardware
    public_ids: Annotated[tuple[Name, ...], Field(min_length=1)]  # in their file's order
    public_sha256: Word  # every site checks that its own public problems have this hash
    test_labels: Annotated[tuple[Name, ...], Field(min_length=1)]  # one for each test problem, in their file's order
    test_sha256: Word  # as for the public problems
    run: str = Field(default_factory=lambda: token_hex(8), pattern=RUN)  # server and sites keep their files under it
    resume: bool = False  # go on after the run's last completed round, in place of a job that did not end well
    task_package: TaskPackage | None = Field(None, exclude_if=lambda package: package is None)  # None: a task of ours
    base_model: Word | None = None  # the fingerprint that every site's model must have; None: the same at most sites

    @model_validator(mode="after")
    def _fits_a_message(self) -> Self:
        """With an adaptive schedule, one message may be about all public problems."""
        exchange, count = self.job.exchange, len(self.public_ids)
        most = min(MAX_ASKED, MAX_POOLED // exchange.max_per_prompt)
        if exchange.schedule == "adaptive" and count > most:
            raise ValueError(
                f"exchange.schedule: adaptive can be about {most} public problems at most, as "
                f"exchange.max_per_prompt is {exchange.max_per_prompt}; there are {count}"
            )
        return self
