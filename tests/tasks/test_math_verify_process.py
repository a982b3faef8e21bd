"""The comparing process with a broken or unexpected math-verify."""

import pytest
from sympy import Expr, Integer

from fedrlvr.tasks import exact_math
from fedrlvr.tasks import math_verify_client as client_module
from fedrlvr.tasks.math_verify_client import MathVerifyClient, VerifierFault


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
        ("class grader: pass\nverify = lambda *a, **k: True", "says that"),
    ],
)
def test_a_broken_installation_is_a_fault_and_no_reward(client, tmp_path, monkeypatch, module, text):
    (tmp_path / "math_verify.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for _ in range(2):
        with pytest.raises(VerifierFault, match=text):
            client.budget()("x", "y")
    assert client._process is None


def test_a_process_that_cannot_be_started_is_a_fault(client, monkeypatch):
    monkeypatch.setattr(client_module.sys, "executable", "/nonexistent/python")
    with pytest.raises(VerifierFault, match="cannot be started"):
        client.budget()("x", "y")


def test_what_libraries_print_does_not_reach_the_channel(client, tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text(
        "import os\nprint('noise', flush=True); os.write(1, b'{}\\n')\n"
        "class grader: pass\n"
        "def verify(one, other, **options):\n"
        "    print('noise', flush=True); os.system('echo noise')\n"
        "    return '<' not in str(one) or type(one[0]) is type(other[0])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert client.budget()("x<1", "x<3") == "equal"  # as this math-verify says


class Unwritable(Expr):
    """A finite constant that has no digits as far as sympy knows."""

    is_number, is_finite = True, True

    def as_real_imag(self, deep=True, **hints):
        return self, Integer(0)

    def evalf(self, *precision, **options):
        return self


def test_a_constant_without_digits_is_left_to_math_verify():
    assert exact_math.constants_equal(Unwritable(Integer(1)), Unwritable(Integer(2))) is None
    assert exact_math.constants_equal(Unwritable(Integer(1)), Unwritable(Integer(1))) is True
    assert exact_math.constants_equal(Integer(1), Integer(2)) is False
