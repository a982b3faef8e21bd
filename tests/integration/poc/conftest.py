"""One proof of concept for the tests of a file, because starting one takes time."""

from pathlib import Path

import pytest
from tests.integration.poc.deployed import JOB, SEED, STARTED, poc_run, run, settings
from tests.runs import adapter_of

from fedrlvr.flare.deploy.poc import Poc


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The proof of concept's; whatever of it runs at the end is ended."""
    folder = tmp_path_factory.mktemp("poc") / "poc"
    yield folder
    for process in STARTED:
        process.kill()
        process.wait()
    if (folder / "project.yml").exists():
        Poc(folder).deployment.stop()


@pytest.fixture(scope="module")
def arguments(request, folder, port) -> list:
    return ["--sites", len(request.module.NAMES), "--port", port, "--workspace", folder]


@pytest.fixture
def poc(folder, arguments) -> Poc:
    """It is up, as some test left it or started again."""
    if not (folder / "project.yml").exists() or not Poc(folder).deployment.started:
        code, out = poc_run("up", *arguments)
        assert code == 0, out
    return Poc(folder)


@pytest.fixture
def lead(tmp_path, folder) -> Path:
    """A folder for one run; the base model is made once for all of them."""
    models = folder.parent / "models"
    models.mkdir(exist_ok=True)
    (tmp_path / "models").symlink_to(models)
    return tmp_path


@pytest.fixture(scope="module")
def calm(request, folder) -> bytes:
    """The adapter in which the same job ends in one process, undisturbed."""
    here = ["--env", "local", "--workspace", folder.parent, "--seed", SEED]
    code, out = run(JOB, *here, *settings(request.module.LABELS, "name=calm"))
    assert code == 0, out
    return adapter_of(folder.parent / f"calm-pubswap-seed{SEED}")
