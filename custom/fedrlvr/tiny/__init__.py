"""Generated problems and tiny base models, for the demo, dry runs and tests."""
