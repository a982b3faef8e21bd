"""The one text that tells every participant which run it is."""

import pytest
from pydantic import ValidationError
from tests.runs import PROBLEMS, some_spec

from fedrlvr.protocol.run_spec import RunSpec


def test_it_says_the_same_on_the_other_side(job):
    spec = some_spec(job, public_ids=["p1", "p2"], resume=True, base_model="ab")
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_run_without_a_name_gets_one_of_its_own(job):
    one, other = (some_spec(job).run for _ in range(2))
    assert one != other


@pytest.mark.parametrize(
    "name", ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "../../etc/passwd", "0123456789abcdef\n",
             "012345678/abcdef", None, 16],
)  # fmt: skip
def test_a_name_that_could_lead_out_of_the_folder_is_refused(job, name):
    with pytest.raises(ValidationError, match=r"(?s)run\n.*(pattern|valid string)"):
        RunSpec.model_validate({"job": job, "run": name} | PROBLEMS)


@pytest.mark.parametrize(
    "changes", [{"public_ids": []}, {"test_labels": []}, {"test_labels": ["\x1b[2J"]}, {"workspace": "/srv"}]
)
def test_what_is_no_run(job, changes):
    with pytest.raises(ValidationError):
        RunSpec.model_validate({"job": job} | PROBLEMS | changes)


@pytest.mark.parametrize(("count", "per_prompt", "fits"), [(6250, 16, True), (6251, 16, False), (10_001, 1, False)])
def test_an_adaptive_schedule_needs_a_public_set_that_fits_a_message(small_job, count, per_prompt, fits):
    job = small_job(exchange__schedule="adaptive", exchange__max_per_prompt=per_prompt)
    ids = tuple(f"p{number}" for number in range(count))
    if fits:
        assert some_spec(job, public_ids=ids)
        return
    with pytest.raises(
        ValidationError, match=rf"adaptive can be about \d+ public problems at most, .* there are {count}"
    ):
        some_spec(job, public_ids=ids)
