"""Bad input at a site is found before a model is loaded, and the message says what to do."""

import json
import os
import shutil
import sys

import pytest
import torch
from tests.runs import spec_of
from transformers import AutoTokenizer

from fedrlvr.data.problems import ProblemFileError
from fedrlvr.learning.build import build_trainer, gpu_of_rank
from fedrlvr.learning.ranks import Ranks, backend_for
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.protocol.records import Envelope, Segment
from fedrlvr.protocol.refused import NotAgreed
from fedrlvr.protocol.requests import TrainRequest, ValidateRequest
from fedrlvr.server.answer_checks import check_scores, check_steps
from fedrlvr.site_config import LocalModel, SiteConfig
from fedrlvr.tasks import TASKS
from fedrlvr.tiny.base_model import BaseModelSettings, base_model
from fedrlvr.tiny.generated import GeneratedData, write_generated


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "another"}, "model: the job is for 'tiny', this site's file offers 'another'"),
        ({"model_path": "/nonexistent"}, "model_path: no config.json in /nonexistent; expected a Hugging Face model"),
        ({"deepspeed_config": "/nonexistent"}, "deepspeed_config: no such file: /nonexistent"),
        ({"private_problems": "/nonexistent"}, "private_problems: no such file: /nonexistent"),
    ],
)
def test_a_site_file_that_points_nowhere(site_files, job, changes, reason):
    _, configs = site_files({"site-1": ("A",)}, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        build_trainer(spec_of(job, configs), "site-1", configs["site-1"], Ranks())


@pytest.mark.parametrize(
    ("rank", "changes", "reason"),
    [
        (9, {}, "lora_rank: this site's file says 9, but the job's lora.r is 8; lower it"),
        (4, {"federation__aggregator": "fedit"}, "lora_rank: 4 needs federation.aggregator: svd.*the job has fedit"),
        (4, {"federation__aggregator": "ffa"}, "lora_rank: 4 needs federation.aggregator: svd.*the job has ffa"),
        (4, {"optimizer__weight_decay": 0.1}, "lora_rank: the job's optimizer.weight_decay 0.1 would move the ranks"),
    ],
)
def test_a_site_of_fewer_ranks_does_not_join_what_it_does_not_fit(site_files, small_job, rank, changes, reason):
    _, configs = site_files({"site-1": ("A",)}, lora_rank=rank)
    with pytest.raises(ValueError, match=reason):
        build_trainer(spec_of(small_job(**changes), configs), "site-1", configs["site-1"], Ranks())


@pytest.mark.parametrize("name", ["public", "test"])
def test_another_public_or_test_set_than_agreed(site_files, job, name):
    _, configs = site_files({"site-1": ("A",)})
    said = rf"^{name}_problems differs: the job is for manifest hash 0000, this site has [0-9a-f]{{64}}; get the"
    with pytest.raises(NotAgreed, match=said):
        build_trainer(spec_of(job, configs, **{f"{name}_sha256": "0000"}), "site-1", configs["site-1"], Ranks())


@pytest.mark.parametrize("field", ["public_ids", "test_labels"])
def test_a_job_that_lists_other_problems_than_the_agreed_ones(site_files, job, field):
    """Such as one problem many times: its plan would look in order."""
    _, configs = site_files({"site-1": ("A",)})
    spec = spec_of(job, configs)
    first = getattr(spec, field)[:1]
    with pytest.raises(NotAgreed, match="public_ids or test_labels are not those of the agreed problems"):
        build_trainer(spec.model_copy(update={field: first * 8}), "site-1", configs["site-1"], Ranks())


def test_a_malformed_problem_file_names_line_and_field(site_files, job):
    _, configs = site_files({"site-1": ("A",)})
    path = configs["site-1"].private_problems
    lines = path.read_text().splitlines()
    record = json.loads(lines[2])
    del record["answer"]
    path.write_text("\n".join([*lines[:2], json.dumps(record), *lines[3:]]))
    with pytest.raises(ProblemFileError, match=r"site-1.jsonl, line 3, field answer: missing"):
        build_trainer(spec_of(job, configs), "site-1", configs["site-1"], Ranks())


def test_an_empty_public_set(site_files, job):
    _, configs = site_files({"site-1": ("A",)})
    spec = spec_of(job, configs)
    configs["site-1"].public_problems.write_text("")
    with pytest.raises(ProblemFileError, match=r"public.jsonl: holds no problem"):
        build_trainer(spec, "site-1", configs["site-1"], Ranks())


@pytest.mark.parametrize("stage", [4, "two"])
def test_a_deepspeed_stage_that_is_not_supported(site_files, job, stage):
    _, configs = site_files({"site-1": ("A",)}, stage=stage)
    with pytest.raises(ValueError, match=f"there is no zero_optimization.stage {stage}; use 0, 1, 2 or 3"):
        build_trainer(spec_of(job, configs), "site-1", configs["site-1"], Ranks())


def test_differential_privacy_with_partitioned_weights(site_files, small_job):
    _, configs = site_files({"site-1": ("A",)}, stage=3)
    with pytest.raises(ValueError, match=r"deepspeed.json: dp_grpo needs gradients of whole weights; use ZeRO stage 2"):
        build_trainer(spec_of(small_job(privacy__mode="dp_grpo"), configs), "site-1", configs["site-1"], Ranks())


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        ({"rollout": {"engine": "continuous"}}, "rollout.engine continuous needs whole weights; use ZeRO stage 2"),
        (
            {"rollout": {"engine": "vllm", "vllm": {"python": sys.executable}}},
            "rollout.engine vllm needs whole weights; use ZeRO stage 2",
        ),
        ({"load_in_4bit": True}, "load_in_4bit was not tried with ZeRO stage 3; use ZeRO stage 2"),
    ],
)
def test_what_needs_whole_weights_with_partitioned_ones(site_files, job, hardware, said):
    _, configs = site_files({"site-1": ("A",)}, stage=3)
    config = SiteConfig(**configs["site-1"].model_dump() | hardware | {"rollout": hardware.get("rollout", {})})
    with pytest.raises(ValueError, match=f"deepspeed.json: {said}"):
        build_trainer(spec_of(job, configs), "site-1", config, Ranks())


def test_lora_targets_that_match_nothing(site_files, small_job):
    _, configs = site_files({"site-1": ("A",)})
    job = small_job(lora__target_modules=["no_such_proj"])
    with pytest.raises(ValueError, match=r"no linear layer of .* is called 'no_such_proj'; it has down_proj"):
        build_trainer(spec_of(job, configs), "site-1", configs["site-1"], Ranks())


def test_the_rollout_engine_is_the_sites_and_is_told_of_changes(site_files, job):
    _, configs = site_files({"site-1": ("A",)}, generation_batch_size=3)
    trainer = build_trainer(spec_of(job, configs), "site-1", configs["site-1"], Ranks())
    generator = trainer.rollouts.generator
    assert isinstance(generator, CachedSampler)
    assert generator.batch_size == 3
    assert trainer.engine.adapter_changed == generator.adapter_changed


@pytest.mark.parametrize(("dtype", "kept"), [("float32", True), ("bfloat16", False)])
def test_log_probabilities_of_sampling_are_kept_where_they_are_exact(site_files, job, dtype, kept):
    _, configs = site_files({"site-1": ("A",)}, dtype=dtype)
    trainer = build_trainer(spec_of(job, configs), "site-1", configs["site-1"], Ranks())
    groups, _ = trainer.rollouts.groups(trainer.problems.private[:1], 2, seed=0)
    assert [completion.logprobs is not None for completion in groups[0].completions] == [kept, kept]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(site_files, job):
    _, configs = site_files({"site-1": ("A",)}, device="cuda")
    with pytest.raises(ValueError, match="device: cuda is set, but torch finds no GPU; use cpu or auto"):
        build_trainer(spec_of(job, configs), "site-1", configs["site-1"], Ranks())


def edit_line(path, number: int, **changes) -> None:
    """Change fields of the problem on line `number`, counted from 1."""
    lines = path.read_text().splitlines()
    lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | changes)
    path.write_text("\n".join(lines) + "\n")


def lengthen(config, name: str, number: int, letters: int) -> None:
    edit_line(getattr(config, f"{name}_problems"), number, prompt="z" * letters + "?")


def test_a_prompt_that_is_too_long_for_the_model_is_left_out_and_counted(arithmetic_site, caplog):
    """512 positions less 21 for the completion are 491: the letters, the mark, and the line end that arithmetic puts
    behind it."""
    spec, config = arithmetic_site
    before = build_trainer(spec, "site-1", config, Ranks())
    assert before.too_long == {}
    for name, number, letters in (("private", 3, 490), ("private", 4, 489), ("private", 9, 600), ("public", 2, 490)):
        lengthen(config, name, number, letters)
    spec = spec_of(spec.job, {"site-1": config})
    trainer = build_trainer(spec, "site-1", config, Ranks())
    kept = [problem.id for i, problem in enumerate(before.problems.private, start=1) if i not in (3, 9)]
    assert [problem.id for problem in trainer.problems.private] == kept
    assert trainer.too_long == {"private": 2, "public": 1}
    assert "private: 2 of 16 problems have prompts of more than 491 tokens and are left out" in caplog.text
    assert "public: 1 of 8 problems have prompts of more than 491 tokens and are left out" in caplog.text


def test_what_is_measured_and_too_long_counts_as_not_solved(arithmetic_site, caplog):
    """So the scores are of as many problems as were agreed on."""
    spec, config = arithmetic_site
    for name, number in (("test", 5), ("heldout", 2)):
        lengthen(config, name, number, 490)
    spec = spec_of(spec.job, {"site-1": config})
    trainer = build_trainer(spec, "site-1", config, Ranks())
    assert trainer.too_long == {"test": 1, "heldout": 1}
    assert "test: 1 of 16 problems have prompts of more than 491 tokens and count as not solved" in caplog.text
    groups, _ = trainer.rollouts.groups(trainer.problems.test[3:6], 2, seed=0)
    assert [group.problem.id for group in groups] == [problem.id for problem in trainer.problems.test[3:6]]
    assert [len(made.token_ids) > 0 for group in groups for made in group.completions] == [True] * 2 + [False] * 2 + [
        True
    ] * 2
    assert [made.reward for made in groups[1].completions] == [0.0, 0.0]
    request = ValidateRequest(envelope=Envelope.here(spec.public_sha256, 0), samples=1, share=(0, 1), name="global 0")
    scores = trainer.validate(None, 1, (0, 1), "global 0")
    check_scores(scores, request, spec.test_labels, [1])
    assert sum(part["problems"] for part in scores.heldout.values()) == 4


def test_the_limit_may_be_lower_than_what_the_model_holds(arithmetic_site, small_job):
    spec, config = arithmetic_site
    trainer = build_trainer(spec, "site-1", config, Ranks())
    lengths = {p.id: len(trainer.rollouts.policy.encode_prompt(p.prompt + "\n")) for p in trainer.problems.private}
    limit = sorted(lengths.values())[8]
    job = small_job(task="arithmetic", grpo__max_completion_length=21, grpo__max_prompt_length=limit)
    short = build_trainer(spec_of(job, {"site-1": config}), "site-1", config, Ranks())
    assert [p.id for p in short.problems.private] == [name for name, length in lengths.items() if length <= limit]


def test_a_step_on_public_problems_of_which_some_are_too_long(arithmetic_site):
    spec, config = arithmetic_site
    lengthen(config, "public", 2, 490)
    spec = spec_of(spec.job, {"site-1": config})
    trainer = build_trainer(spec, "site-1", config, Ranks())
    trainer.begin_round(trainer.engine.adapter(), 0)
    request = TrainRequest(
        envelope=Envelope.here(spec.public_sha256, 0),
        segments=[Segment(0, 0, spec.public_ids[:3]), Segment(1, 0, spec.public_ids[1:2])],
        exchange=False,
        begin_round=True,
        adapter_spec="",
    )
    steps = trainer.train(request.segments, request.exchange)
    assert [step.metrics["groups"] for step in steps] == [2.0, 0.0]
    check_steps(steps, request, spec.job)


@pytest.mark.parametrize(("name", "count"), [("private", 16), ("public", 8), ("test", 16)])
def test_a_set_in_which_all_is_too_long_is_refused(arithmetic_site, name, count):
    spec, config = arithmetic_site
    for number in range(1, count + 1):
        lengthen(config, name, number, 500 + number)
    with pytest.raises(ValueError) as caught:
        build_trainer(spec_of(spec.job, {"site-1": config}), "site-1", config, Ranks())
    said = f"{name}_problems: all {count} prompts are too long; the shortest has 503 tokens, and 491 are allowed"
    assert str(caught.value).startswith(said)


def test_completions_that_leave_no_room_for_a_prompt_are_refused(arithmetic_site, small_job):
    _, config = arithmetic_site
    job = small_job(task="arithmetic", grpo__max_completion_length=512)
    with pytest.raises(ValueError, match="is 512, which leaves no room for a prompt in the 512 positions of the model"):
        build_trainer(spec_of(job, {"site-1": config}), "site-1", config, Ranks())


@pytest.mark.parametrize(("name", "number"), [("private", 16), ("heldout", 1)])
def test_a_control_token_in_a_problem_is_named_by_its_place_and_its_text_not_quoted(arithmetic_site, name, number):
    spec, config = arithmetic_site
    edit_line(getattr(config, f"{name}_problems"), number, prompt="PATIENT-4711<eos>how many?")
    with pytest.raises(ValueError, match=f"^{name}_problems, problem {number}: a prompt contains '<eos>'") as caught:
        build_trainer(spec, "site-1", config, Ranks())
    assert "4711" not in str(caught.value)


def test_a_template_with_a_token_that_the_model_cannot_read_is_refused(arithmetic_site, tmp_path):
    spec, config = arithmetic_site
    path = shutil.copytree(config.model_path, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(path)
    size = len(tokenizer)
    tokenizer.add_tokens(["<|user|>"])
    tokenizer.chat_template = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(path)
    said = f"^private_problems, problem 1: its prompt holds token number {size}, and the model has only {size} embedd"
    with pytest.raises(ValueError, match=said):
        build_trainer(spec, "site-1", config.model_copy(update={"model_path": path}), Ranks())


@pytest.fixture(scope="module")
def arithmetic_model(tmp_path_factory):
    task = TASKS["arithmetic"]
    settings = BaseModelSettings(hidden_size=16, num_layers=1, intermediate_size=16, num_heads=1, head_dim=8, steps=0)
    return base_model(task, task, settings, tmp_path_factory.mktemp("models"))


@pytest.fixture
def arithmetic_site(tmp_path, arithmetic_model, small_job):
    """(a run of at most 21 tokens an answer, site config)"""
    task = TASKS["arithmetic"]
    sites = {"site-1": task.labels}
    data = GeneratedData(sites=sites, private_per_site=16, heldout_per_site=4, public=8, test_per_label=4)
    write_generated(data, task, 0, tmp_path)
    (tmp_path / "deepspeed.json").write_text("{}")
    names = {"private": "site-1", "heldout": "site-1.heldout", "public": "public", "test": "test"}
    config = SiteConfig(
        model="tiny",
        model_path=arithmetic_model,
        deepspeed_config=tmp_path / "deepspeed.json",
        state_dir=tmp_path / "state",
        **{f"{name}_problems": tmp_path / f"{file}.jsonl" for name, file in names.items()},
    )
    return spec_of(small_job(task="arithmetic", grpo__max_completion_length=21), {"site-1": config}), config


@pytest.mark.parametrize(
    ("settings", "local_rank", "count", "expected"),
    [
        ({}, "0", 0, None),
        ({"device": "cpu"}, "0", 4, None),
        ({}, "0", 1, 0),
        ({}, "3", 4, 3),
        ({"gpus": [4, 6]}, "1", 2, 1),  # what is named is all that this process sees
        ({"device": "cuda"}, "3", 2, 1),  # two ranks on each
    ],
)
def test_a_rank_takes_the_gpu_of_its_place_and_deepspeed_the_same(monkeypatch, settings, local_rank, count, expected):
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert gpu_of_rank(LocalModel(model_path="x", **settings), count) == expected
    assert os.environ["LOCAL_RANK"] == str(expected or 0)


@pytest.mark.parametrize(
    ("settings", "count", "said"),
    [
        ({"device": "cuda"}, 0, "device: cuda is set, but torch finds no GPU"),
        ({"gpus": [0]}, 0, "gpus: 1 are named, but torch finds 0"),
        ({"gpus": [0, 9]}, 1, "gpus: 2 are named, but torch finds 1; see what nvidia-smi shows"),
    ],
)
def test_gpus_that_are_not_there_are_no_reason_to_use_the_cpu(settings, count, said):
    with pytest.raises(ValueError, match=said):
        gpu_of_rank(LocalModel(model_path="x", **settings), count)


@pytest.mark.parametrize(
    ("ranks", "gpus", "backend", "shared"),
    [
        (2, 0, "gloo", False),
        (2, 2, "cpu:gloo,cuda:nccl", False),
        (2, 8, "cpu:gloo,cuda:nccl", False),
        (3, 2, "gloo", True),
    ],
)
def test_ranks_that_share_a_gpu_do_not_use_nccl_and_the_log_says_so(ranks, gpus, backend, shared, caplog):
    assert backend_for(ranks, gpus) == backend
    assert ("3 ranks share 2 GPUs and exchange tensors by gloo; fewer processes are faster" in caplog.text) is shared
