"""fedrlvr: federated reinforcement learning from verifiable rewards, with response swapping, on NVIDIA FLARE."""

import sys

__version__ = "0.1.0"

# Older Pythons read this file first, and so it has no newer syntax.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("fedrlvr needs Python 3.11 or newer; this is " + ".".join(map(str, sys.version_info[:2])))
