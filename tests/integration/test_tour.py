"""Every command of the tour, in its order, in one folder, as a newcomer types them. To save minutes, runs of the demo
are made smaller by settings at their end; nothing else is changed. One command is run by a test of its own."""

import re
from contextlib import suppress

import pytest
from tests.environments import Environment
from tests.integration.conftest import ROOT, SMALL

from fedrlvr.flare.deploy.poc import Poc
from fedrlvr.settings_file import SettingsError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TOUR = (ROOT / "jobs" / "TOUR.md").read_text()
ELSEWHERE = {"python poc/rehearse.py": "integration/test_rehearsal.py"}


def stations() -> list[list[str]]:
    """The commands of each station."""
    parts = re.split(r"^## ", TOUR, flags=re.MULTILINE)[1:]
    return ["".join(re.findall(r"^```\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)).splitlines() for part in parts]


def smaller(command: str) -> str:
    """A run of the demo with settings of seconds."""
    if not command.startswith("python jobs/demo/job.py"):
        return command
    dealt = "--env poc" in command  # whose labels are dealt to its sites
    settings = [setting for setting in SMALL if not (dealt and setting.startswith("data.sites"))]
    return " ".join([command, *(f"--set '{setting}'" for setting in settings)])


@pytest.fixture
def clone(tmp_path):
    """A folder with what a clone has, in which commands leave what they leave."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("jobs", "poc", "app_configs"):
        (folder / name).symlink_to(ROOT / name)
    yield folder
    with suppress(SettingsError):  # it was not begun
        Poc(folder / "workspace" / "poc").down()


def test_every_command_of_the_tour_works_as_it_stands(tmp_path, clone):
    assert len(stations()) == 6
    commands = [command for some in stations() for command in some if command not in ELSEWHERE]
    assert len(commands) > 15
    environment, here = Environment(tmp_path / "environment"), clone
    for command in commands:
        if command.startswith("cd "):
            here = (here / command.removeprefix("cd ")).resolve()
            continue
        # A run of seconds may learn nothing, and says so with code 4.
        environment.run(smaller(command), here, (0, 4) if command.startswith("python jobs/demo") else (0,))
    assert here == clone
    for left in ("compared.html", "evaluation/evaluation.json", "merged/model.safetensors"):
        assert (clone / left).is_file()


def test_what_is_not_run_here_is_run_by_a_test_of_its_own():
    said = [command for some in stations() for command in some]
    for command, test in ELSEWHERE.items():
        assert command in said
        assert '"poc" / "rehearse.py"' in (ROOT / "tests" / test).read_text()
