"""Runs in a site's FLARE processes, or sets up its FLARE folder."""
