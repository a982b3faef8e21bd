"""Problem files, data sets and their partition over sites, and how prompts become tokens."""
