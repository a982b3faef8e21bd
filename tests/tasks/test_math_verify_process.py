"""The comparing process with a broken or unexpected math-verify."""

import pytest
from sympy import Expr, Integer

from fedrlvr.tasks import math_verify_client as client_module
from fedrlvr.tasks.math_verify_client import MathVerifyClient, VerifierFault
from fedrlvr.tasks.math_verify_process import _constants_equal


@pytest.fixture
def client():
    made = MathVerifyClient(1.0, 1024)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("raise ImportError('no sympy')", "no sympy"),
        ("import os; os._exit(7)", "ended with code 7"),
        ("parse = lambda *a, **k: []\nverify = lambda *a, **k: True\nLatexExtractionConfig = dict", "says that"),
    ],
)
def test_a_broken_installation_is_a_fault_and_no_reward(client, tmp_path, monkeypatch, module, text):
    (tmp_path / "math_verify.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for _ in range(2):
        with pytest.raises(VerifierFault, match=text):
            client.compare("x", "y")
    assert client._process is None


def test_a_process_that_cannot_be_started_is_a_fault(client, monkeypatch):
    monkeypatch.setattr(client_module.sys, "executable", "/nonexistent/python")
    with pytest.raises(VerifierFault, match="cannot be started"):
        client.compare("x", "y")


def test_what_libraries_print_does_not_reach_the_channel(client, tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text(
        "import os\nprint('noise', flush=True); os.write(1, b'{}\\n')\n"
        "LatexExtractionConfig = dict\n"
        "def parse(text, **options):\n    print('noise', flush=True); os.system('echo noise'); return [text]\n"
        "def verify(gold, candidate, **options):\n    return 'pi' not in gold[0]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert client.compare("x", "y") == "equal"


class Unwritable(Expr):
    """A finite constant that has no digits as far as sympy knows."""

    is_number, is_finite = True, True

    def evalf(self, *precision, **options):
        return self


def test_a_constant_without_digits_is_left_to_math_verify():
    assert _constants_equal(Unwritable(Integer(1)), Unwritable(Integer(2))) is None
    assert _constants_equal(Unwritable(Integer(1)), Unwritable(Integer(1))) is True
    assert _constants_equal(Integer(1), Integer(2)) is False
