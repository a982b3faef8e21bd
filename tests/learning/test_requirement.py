"""Memory worked out from a model's configuration, beside what a real model takes."""

import pytest
import torch

from fedrlvr.config import JobConfig, LoraSettings, PromptSettings
from fedrlvr.learning.batch import Row, collate
from fedrlvr.learning.model import load_policy
from fedrlvr.learning.requirement import LIBRARIES, Requirement, _kept, _on_meta, requirement
from fedrlvr.learning.scorer import Scorer
from fedrlvr.site_config import LocalModel

LORA = {"r": 4, "target_modules": "all-linear"}


def job(**grpo) -> JobConfig:
    return JobConfig(task="protocol", model="x", grpo={"max_completion_length": 16} | grpo, lora=LORA)


@pytest.fixture
def worked_out(model_path):
    def work_out(stage=0, free=None, **site) -> Requirement:
        return requirement(LocalModel(model_path=model_path, **site), job(), stage, 10, free)

    return work_out


@pytest.fixture
def policy(model_path):
    return load_policy(LocalModel(model_path=model_path), LoraSettings(**LORA), PromptSettings(), torch.device("cpu"))


def sizes(policy) -> tuple[int, int]:
    """How many numbers are frozen, and how many train."""
    parameters = list(policy.model.parameters())
    return tuple(sum(p.numel() for p in parameters if p.requires_grad is trained) for trained in (False, True))


@pytest.mark.parametrize(
    ("stage", "ranks", "dtype", "of_a_weight", "of_a_factor"),
    [
        (0, 1, "float32", 4, 4 + 4 + 8),  # itself, its gradient, Adam's moments
        (0, 1, "bfloat16", 2, 2 + 2 + 8 + 8),  # and its master with a gradient
        (1, 2, "float32", 4, 4 + 4 + (8 + 8) / 2),
        (2, 2, "float32", 4, 4 + 2 + (8 + 8) / 2),
        (2, 4, "bfloat16", 2, 2 + 2 / 4 + (8 + 8) / 4),
    ],
)
def test_weights_and_adapter_by_stage(worked_out, policy, stage, ranks, dtype, of_a_weight, of_a_factor):
    frozen, trained = sizes(policy)
    need = worked_out(stage, processes=ranks, dtype=dtype)
    assert need.weights == frozen * of_a_weight
    assert need.adapter == trained * of_a_factor


def test_weights_in_four_bits_are_half_a_byte_with_a_scale_for_64(worked_out, policy):
    """Embeddings, which are the head's, and norms stay whole. No merged copy is made."""
    whole, four = worked_out(), worked_out(load_in_4bit=True)
    linear = sum(p.numel() for name, p in policy.model.named_parameters() if ".base_layer.weight" in name)
    assert whole.weights - four.weights == linear * (4 - 0.5 - 4 / 64)
    assert whole.sampling - four.sampling == linear * 4


def test_stage_3_divides_the_weights_and_holds_the_largest_whole(worked_out, policy):
    frozen, _ = sizes(policy)
    largest = max(p.numel() for p in policy.model.parameters())
    assert worked_out(3, processes=4).weights == frozen * 4 / 4 + 2 * largest * 4
    assert worked_out(3, processes=4).sampling < worked_out(2, processes=4).sampling  # no merged copy


def test_what_training_keeps_is_what_a_real_forward_pass_keeps(model_path, policy):
    scorer = Scorer(policy, 1.0)
    rows = [Row((5,) * 40, (6,) * 16)] * 8 + [Row((7,) * 40, (6,) * 16)] * 8
    batch, kept, own = collate(rows, 0, torch.device("cpu")), {}, {p.data_ptr() for p in policy.model.parameters()}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scorer(batch)
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    on_meta = _on_meta(LocalModel(model_path=model_path), job())
    assert _kept(on_meta.get_base_model(), rows) == pytest.approx(found, rel=0.15)


def test_fewer_rows_and_checkpointing_need_less(worked_out):
    all_rows = worked_out(micro_batch_size=64).training
    assert worked_out(micro_batch_size=8).training < all_rows / 6
    assert worked_out(micro_batch_size=64, gradient_checkpointing=True).training < all_rows


@pytest.mark.parametrize("grpo", [{"entropy_coef": 0.1}, {"top_entropy_quantile": 0.2}])
def test_entropies_need_a_second_place_for_logits(model_path, worked_out, policy, grpo):
    """Of 8 rows in a micro-batch with 16 tokens each, in float32."""
    site = LocalModel(model_path=model_path, micro_batch_size=8)
    need = requirement(site, job(**grpo), 0, 10, None)
    assert need.training - worked_out(micro_batch_size=8).training == 8 * 16 * policy.embeddings * 4


def test_sampling_is_for_the_completions_of_a_step_of_one_rank_or_as_many_as_there_is_room_for(worked_out):
    assert worked_out().rows == 64
    assert worked_out(processes=2).rows == 32
    assert worked_out(generation_batch_size=5).rows == 5
    need, merged = worked_out(generation_batch_size=1), worked_out(generation_batch_size=2)
    row = merged.sampling - need.sampling
    assert worked_out(free=10.5 * row).rows == 10
    assert worked_out(free=0).rows == 1


def test_what_one_phase_leaves_serves_the_other_on_a_gpu_alone():
    need = Requirement(weights=100, adapter=10, sampling=50, training=70, rows=1)
    assert need.total(on_gpu=True) == LIBRARIES + 180
    assert need.total(on_gpu=False) == LIBRARIES + 230
