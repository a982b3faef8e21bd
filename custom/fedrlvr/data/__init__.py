"""Problems on disk, problems made by a task, and the tiny base model that learns from them."""
