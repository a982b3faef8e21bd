"""What a site remembers between exchanges, with the real engine."""

from tests.learning.test_trainer import gold_answers, public_segment

from fedrlvr.protocol.records import Segment

ADAPTIVE = {"exchange__schedule": "adaptive", "grpo__num_generations": 16, "grpo__temperature": 0.7}


def test_answers_of_earlier_steps_are_offered_once(make_trainer, small_job):
    trainer = make_trainer(small_job(**ADAPTIVE))
    first = public_segment(trainer)
    second = Segment(1, 1, tuple(list(trainer.problems.public)[4:8]))
    trainer.train([first], exchange=False)
    found = trainer.notes.told().found
    assert found
    assert {*found} <= {*first.public_ids}
    trainer.train([second], exchange=True)
    offers, _ = trainer.propose(second, wanted=sorted({*first.public_ids, *second.public_ids}))
    assert {offer.problem_id for offer in offers} >= {*found}
    assert all(trainer.rollouts.task.verify(trainer.problems.public[o.problem_id], o.text).reward for o in offers)
    trainer.swap(second, [])
    assert trainer.notes.told().found == []


def test_what_the_pool_rescued_is_not_unsolved(make_trainer, small_job):
    trainer = make_trainer(
        small_job(exchange__schedule="adaptive", grpo__num_generations=2, grpo__max_completion_length=24)
    )
    segment = public_segment(trainer)
    trainer.propose(segment)
    trainer.swap(segment, [])
    failed = trainer.notes.told().unsolved
    assert failed
    trainer.propose(segment)
    trainer.swap(segment, gold_answers(trainer, segment))
    assert trainer.notes.told().unsolved == []


def test_notes_survive_a_restart(make_trainer, small_job):
    trainer = make_trainer(small_job(**ADAPTIVE))
    trainer.train([public_segment(trainer)], exchange=False)
    again = make_trainer(trainer.job)
    again.restore(trainer.state())
    assert again.notes.told() == trainer.notes.told()
    assert again.notes.kept() == trainer.notes.kept() != []


def test_other_jobs_keep_no_notes(make_trainer, small_job):
    trainer = make_trainer(small_job())
    trainer.train([public_segment(trainer)], exchange=False)
    assert (trainer.notes.kept(), trainer.notes.unsolved) == ([], set())
