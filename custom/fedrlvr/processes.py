"""Processes that belong together, known by a mark in their environment, which every child inherits."""

from __future__ import annotations

import os
import uuid

import psutil

MARK = "FEDRLVR_RUN"


def new_mark() -> str:
    return uuid.uuid4().hex


def marked(mark: str) -> list[psutil.Process]:
    """Every running process that carries the mark, save the calling one.

    Raises ValueError for an empty mark, which every other process carries.
    """
    if not mark:
        raise ValueError("a run's mark is not empty")
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _carries(process, mark)]


def end_marked(mark: str) -> None:
    """Kill every process that carries the mark, save the calling one; again, as a dying parent may still fork."""
    for _ in range(5):
        found = marked(mark)
        if not found:
            return
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=3)


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
