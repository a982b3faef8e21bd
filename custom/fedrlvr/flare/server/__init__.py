"""Runs in the server's FLARE job process."""
