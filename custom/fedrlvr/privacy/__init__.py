"""Privacy and safety rules: what may leave a site and what a receiver accepts. Nothing here knows FLARE."""
