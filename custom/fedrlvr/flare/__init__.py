"""The only room that knows NVIDIA FLARE. Its folders say in which process a file runs."""
