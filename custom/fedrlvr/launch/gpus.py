"""The GPUs of one machine, dealt to the sites that are simulated on it."""

from collections.abc import Sequence

from fedrlvr.printable import counted
from fedrlvr.settings_file import SettingsError
from fedrlvr.site_config import Hardware


def usable_gpus(hardware: Hardware, count: int) -> tuple[int, ...]:
    """The numbers of those that the sites may use, of `count` that torch sees. Raises SettingsError for one that is not
    there, and where GPUs are asked for and there is none."""
    if hardware.device == "cpu":
        return ()
    if hardware.device == "cuda" and not count:
        raise SettingsError("site.device: cuda, but torch sees no GPU here; expected cpu, or auto")
    for number in hardware.gpus or ():
        if number >= count:
            seen = f"torch sees {count}, numbered from 0" if count else "torch sees none"
            raise SettingsError(f"site.gpus: there is no GPU {number}; {seen}")
    return tuple(range(count)) if hardware.gpus is None else hardware.gpus


def deal(sites: Sequence[str], processes: int, gpus: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Each site's GPUs: one for each of its ranks, in turn. Where there are more ranks than GPUs, they share them."""
    if not gpus:
        return {}
    each = min(processes, len(gpus))
    first = range(0, len(sites) * processes, processes)
    return {
        site: tuple(gpus[(k + rank) % len(gpus)] for rank in range(each)) for site, k in zip(sites, first, strict=True)
    }


def told(dealt: dict[str, tuple[int, ...]], processes: int, gpus: Sequence[int]) -> str:
    """What a lead reads of it."""
    each = "; ".join(f"{site}: {', '.join(map(str, own))}" for site, own in dealt.items())
    ranks = len(dealt) * processes
    shared = f", shared by {ranks} ranks" if ranks > len(gpus) else ""
    return f"{counted(len(gpus), 'GPU')}{shared} ({each})"
