"""From a run's event log to what people look at: live progress, a table, a summary, a picture."""
