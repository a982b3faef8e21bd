"""A site beside its learning: what leaves it, and what can be checked before a job comes."""
