"""Loading libraries and models."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Collect no garbage during the block, as what is loaded stays: looking for garbage among so many objects costs
    seconds, and later collections need not look at them either."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
