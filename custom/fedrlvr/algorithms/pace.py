"""Who has time for another segment, where each site works through a round at its own pace.

Fast sites should not wait for a slow one at the average. So a site begins a segment only if it would be done with it by
the time at which half of the sites are done with all of theirs. Each site's pace until now tells when that is. Nothing
is known of a site before its first segment, which it always gets.
"""

from dataclasses import dataclass, field
from math import inf
from statistics import median, median_low


@dataclass
class Paces:
    """Of one round of so many `segments`; all times are of one clock, in seconds."""

    segments: int
    sites: list[str]
    _done: dict[str, int] = field(default_factory=dict)
    _trained: dict[str, int] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)

    def begin(self, site: str, now: float) -> None:
        self._began[site] = self._last[site] = now
        self._done[site] = self._trained[site] = 0

    def trained(self, site: str, segments: int = 1) -> None:
        """The site took the private steps of these, whatever comes after them."""
        self._trained[site] += segments

    def done(self, site: str, now: float, segments: int = 1) -> None:
        self._done[site] += segments
        self._last[site] = now

    def out(self, site: str) -> None:
        """The site takes no further part, and nobody goes by its pace."""
        self.sites.remove(site)

    def has_time(self, site: str, now: float) -> bool:
        """Whether the site's next segment would end in time. It may end later by half a segment of the median site:
        times vary, and sites that are equally fast must do equally many segments."""
        known = [self._pace(other) for other in self.sites if self._done.get(other)]
        if not self._done.get(site):
            return True
        end = median_low(self._end(other) for other in self.sites)
        return now + self._pace(site) <= end + median(known) / 2

    def work_of(self, site: str) -> int:
        """In how many segments it trained, as it said. At least 1, so that no average is one site's update alone."""
        return max(1, self._trained.get(site, 0))

    def _pace(self, site: str) -> float:
        """Seconds a segment."""
        return (self._last[site] - self._began[site]) / self._done[site]

    def _end(self, site: str) -> float:
        """When the site would be done with the whole round."""
        if not self._done.get(site):
            return inf
        return self._last[site] + (self.segments - self._done[site]) * self._pace(site)
