"""From a run's event log to what people look at: live progress, tables, a summary, pictures."""
