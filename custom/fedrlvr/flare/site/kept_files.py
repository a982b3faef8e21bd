"""Files of a site's kit that are there already: `fedrlvr site init` leaves them alone, and adds what is missing."""

from collections.abc import Callable, Iterable
from pathlib import Path

from fedrlvr.flare.site.lockdown import check_authorization, check_resources, check_switch, read_local
from fedrlvr.flare.site.site_kit import SITE_FILE
from fedrlvr.json_text import from_json
from fedrlvr.privacy.policy import SitePolicy
from fedrlvr.protocol.refused import Refused
from fedrlvr.settings_file import SettingsError, load_settings
from fedrlvr.site_config import SiteConfig

CHECKS: dict[str, Callable[[Path], object]] = {
    SITE_FILE: lambda path: load_settings(SiteConfig, path),
    "policy.yaml": lambda path: load_settings(SitePolicy, path),
    "privacy.json": check_switch,
    "deepspeed.json": lambda path: from_json(path.read_bytes()),
    "resources.json": lambda path: check_resources(read_local(path.parent, path.name)),
    "authorization.json": lambda path: check_authorization(read_local(path.parent, path.name)),
}


def check_kept(local: Path, names: Iterable[str]) -> None:
    """Raises SettingsError for the first of these files that a site cannot keep as it is, with the reason."""
    for name in names:
        try:
            CHECKS[name](local / name)
        except (Refused, ValueError, OSError) as reason:
            raise SettingsError(
                f"{local} has {name} already; nothing was written. It cannot stay as it is: {reason}. Correct it, or "
                "move it away"
            ) from None
