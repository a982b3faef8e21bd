"""The paper and its alternatives as pure functions of tensors and types: no FLARE, DeepSpeed or transformers here."""
