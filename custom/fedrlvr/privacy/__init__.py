"""Privacy rules: what may leave a site, and what it costs. Nothing here knows FLARE."""
