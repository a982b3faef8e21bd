"""The site's resident worker process, and the supervisor that starts it, asks it and replaces it."""
