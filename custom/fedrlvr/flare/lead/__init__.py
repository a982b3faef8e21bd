"""Runs at the lead: starts a job in FLARE and follows it."""
