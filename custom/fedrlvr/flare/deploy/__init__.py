"""FLARE deployments on one machine, and startup kits for many."""
