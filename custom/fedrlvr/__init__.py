"""fedrlvr: federated reinforcement learning from verifiable rewards, with response swapping, on NVIDIA FLARE."""

__version__ = "0.1.0"
