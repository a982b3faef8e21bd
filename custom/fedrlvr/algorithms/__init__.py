"""The paper's algorithm and its alternatives as pure functions: no FLARE, DeepSpeed or transformers here."""
