"""Loading libraries and models."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Collect no garbage during the block. Libraries and models are a million objects that stay: looking for garbage
    among them takes a sixth of the time, and later collections need not look at them either."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
