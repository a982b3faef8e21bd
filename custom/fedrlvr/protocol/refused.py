"""How anybody says no to something that came from elsewhere."""

from fedrlvr.printable import one_line


class Refused(ValueError):
    """Something from another participant that will not be used, with the reason. Whole or not at all: nothing is
    repaired. The reason may quote what came, so it is made one line without what would steer a terminal."""

    def __init__(self, reason: object):
        super().__init__(one_line(str(reason)))


class NotAgreed(Refused):
    """A site's public or test set is not the job's. The reason is made of fixed words and the sets' hashes, so a site
    sends it whatever its policy says of errors."""
