"""Where a run can take place, and what it needs there before FLARE starts."""
