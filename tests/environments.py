"""A Python environment of its own on top of the tests', in which a newcomer's commands are run as they are typed."""

import os
import shlex
import subprocess
import sys
import sysconfig
import venv
from glob import glob
from pathlib import Path

WITHOUT_NETWORK = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]


class Environment:
    """`pip install` of a command goes to `folder`, and what these tests were installed with is there, too."""

    def __init__(self, folder: Path):
        venv.create(folder, with_pip=False)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        outer = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})"  # with what is installed as editable
        (folder / "lib" / version / "site-packages" / "outer.pth").write_text(outer)
        (folder / "bin" / "nvflare").symlink_to(Path(sys.executable).with_name("nvflare"))
        self.python = str(folder / "bin" / "python")

    def run(self, command: str, here: Path, codes: tuple[int, ...] = (0,)) -> str:
        """What a command says in the folder `here`; one of `codes` is what it must end with."""
        name, *words = shlex.split(command)
        programs = {
            "pip": [sys.executable, "-m", "pip", "--python", self.python],
            "python": [self.python],
            "fedrlvr": [self.python, "-m", "fedrlvr.cli"],
            "pytest": [self.python, "-m", "pytest"],
        }
        found = [part for word in words for part in (sorted(glob(word, root_dir=here)) if "*" in word else [word])]
        extra = WITHOUT_NETWORK if name == "pip" else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*programs[name], *found, *extra], cwd=here, env=environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode in codes, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr
