"""Problems and small base models that this package makes itself, for the demo, for dry runs and for tests."""
