"""Privacy and safety rules as pure functions: nothing here knows FLARE."""
