"""How anybody says no to something that came from elsewhere."""


class Refused(ValueError):
    """Something from another participant that will not be used, with the reason. Whole or not at all: nothing is
    repaired."""
