"""From a preset to a run, wherever it takes place."""
