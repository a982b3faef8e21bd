"""From a run's journal to what people look at: live progress, a table, a summary, a picture."""
