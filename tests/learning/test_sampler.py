"""The sampling loop against transformers' own `generate`, and what must not change its samples: how many rows there are
at once, who else is sampled, and memory that runs out."""

import logging
from types import SimpleNamespace

import pytest
import torch
from tests.learning.policies import PROMPTS, load, move
from transformers import LogitsProcessor, LogitsProcessorList, Qwen3Config, Qwen3ForCausalLM

from fedrlvr.learning import sampler as sampler_module
from fedrlvr.learning.decoding import Decoding
from fedrlvr.learning.sampler import CachedSampler


@pytest.fixture(scope="module")
def policy(model_path):
    torch.manual_seed(0)
    policy = load(model_path)
    move(policy)
    return policy


def sample(policy, batch_size=None, temperature=1.0, group=6, length=20, seed=0):
    uniforms = torch.rand(len(PROMPTS) * group, length, generator=torch.Generator().manual_seed(seed))
    return CachedSampler(policy, batch_size).sample([policy.encode(p) for p in PROMPTS], temperature, uniforms)


class Forced(LogitsProcessor):
    """Makes `generate` follow given tokens, and keeps the scores it computed on the way."""

    def __init__(self, rows, prompt_width):
        self.rows, self.prompt_width, self.scores = rows, prompt_width, []

    def __call__(self, input_ids, scores):
        step = input_ids.shape[1] - self.prompt_width
        self.scores.append(scores.clone())
        forced = torch.full_like(scores, float("-inf"))
        for i, row in enumerate(self.rows):
            forced[i, row[min(step, len(row) - 1)]] = 0.0
        return forced


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_generate_with_prompts_of_different_lengths(policy, temperature):
    groups = sample(policy, temperature=temperature)
    rows = [s for group in groups for s in group]
    prompts = [p for p, group in zip(PROMPTS, groups, strict=True) for _ in group]
    inputs = policy.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    forced = Forced([row.token_ids for row in rows], inputs.input_ids.shape[1])
    length = max(len(row.token_ids) for row in rows)
    policy.model.generate(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        logits_processor=LogitsProcessorList([forced]),
        do_sample=False,
        max_new_tokens=length,
        eos_token_id=None,
    )
    for i, row in enumerate(rows):
        for t, (token, logprob) in enumerate(zip(row.token_ids, row.logprobs, strict=True)):
            expected = torch.log_softmax(forced.scores[t][i] / temperature, -1)[token]
            assert logprob == pytest.approx(float(expected), abs=1e-4)  # of merged weights


def tokens(groups) -> list[list[tuple[int, ...]]]:
    return [[sample.token_ids for sample in group] for group in groups]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7, 13, 24])
def test_how_many_rows_there_are_at_once_changes_nothing(policy, batch_size):
    """Groups of six are split, and rows join others that are further on."""
    whole, small = sample(policy), sample(policy, batch_size)
    assert tokens(whole) == tokens(small)
    for one, other in zip((s for g in whole for s in g), (s for g in small for s in g), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.entropy == pytest.approx(other.entropy, abs=1e-4)
        assert one.truncated == other.truncated


def test_prompts_are_read_a_part_at_a_time(policy, monkeypatch):
    expected = tokens(sample(policy))
    read, widths = Decoding._read, []
    monkeypatch.setattr(Decoding, "_read", lambda self, part: widths.append([*map(len, part)]) or read(self, part))
    monkeypatch.setattr("fedrlvr.learning.decoding.PREFILL_TOKENS", 12)
    assert tokens(sample(policy)) == expected
    lengths = [len(policy.encode(prompt)) for prompt in PROMPTS]
    assert [n for part in widths for n in part] == lengths
    assert all(len(part) == 1 or max(part) * len(part) <= 12 for part in widths)
    assert len(widths) > 1


def even_policy() -> SimpleNamespace:
    """Of two tokens, either of which comes with probability 1/2: below u = 0.5 the completion goes on, from there it
    ends."""
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    config = Qwen3Config(vocab_size=2, hidden_size=8, intermediate_size=8, num_hidden_layers=1, **heads)
    model = Qwen3ForCausalLM(config).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    return SimpleNamespace(model=model, eos_ids=(1,), pad_id=0)


def ending_after(lengths: list[int], most: int) -> torch.Tensor:
    """Uniforms for completions of these lengths."""
    uniforms = torch.full((len(lengths), most), 0.25)
    for row, length in zip(uniforms, lengths, strict=True):
        row[length - 1 :] = 0.75
    return uniforms


@pytest.mark.parametrize(
    ("lengths", "batch_size", "calls"),
    [
        # The first row needs 7 tokens after its first. The fifth joins after one of them and needs 7, too: 1 + 7.
        ([8, 1, 1, 1, 8, 1, 1, 1], 4, 8),
        # Without refilling, each four would wait for their longest: 7 + 7. So it is with eight places, too: 7.
        ([8, 1, 1, 1, 8, 1, 1, 1], 8, 7),
        # One after the other: 7 + 0 + 2.
        ([8, 1, 3], 1, 9),
        # Sixteen places are filled up when four are free: three leave first, then all others at once; or four.
        ([1] * 3 + [4] * 13 + [4] * 4, 16, 6),
        ([1] * 4 + [4] * 12 + [4] * 4, 16, 4),
    ],
)
def test_rows_that_have_ended_give_their_places_to_waiting_ones(monkeypatch, lengths, batch_size, calls):
    made, step = [], Decoding._next
    monkeypatch.setattr(Decoding, "_next", lambda self, token: made.append(len(token)) or step(self, token))
    samples = CachedSampler(even_policy(), batch_size).sample([(0, 0)], 1.0, ending_after(lengths, 8))[0]
    assert [len(sample.token_ids) for sample in samples] == lengths
    assert len(made) == calls
    assert max(made) <= batch_size
    for sample in samples:
        assert sample.logprobs == pytest.approx([-0.6931] * len(sample.token_ids), abs=1e-4)
        assert sample.entropy == pytest.approx(0.6931, abs=1e-4)


RAN_OUT = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 79.3 GiB in total."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to"),
)


@pytest.fixture
def runs_out(monkeypatch):
    """runs_out(error, most, after) raises the error once there are more than `most` rows and `after` rows have ended.
    Returns a list of (rows sampled from, rows ended) of each token."""
    step = Decoding._next

    def install(error, most: int, after: int = 0) -> list:
        seen = []

        def limited(self, token):
            ended = int((self.finished_N > 0).sum())
            seen.append((len(token), ended))
            if len(token) > most and ended >= after:
                raise error
            return step(self, token)

        monkeypatch.setattr(Decoding, "_next", limited)
        return seen

    return install


@pytest.mark.parametrize("error", RAN_OUT, ids=["gpu", "cpu"])
def test_memory_that_runs_out_halves_the_rows_and_changes_nothing(policy, runs_out, caplog, error):
    expected = tokens(sample(policy))
    seen = runs_out(error, most=6)
    sampler = CachedSampler(policy)
    uniforms = torch.rand(24, 20, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.WARNING):
        found = sampler.sample([policy.encode(p) for p in PROMPTS], 1.0, uniforms)
    assert tokens(found) == expected
    said = "memory ran out in sampling: from now on at most {} completions at once"
    assert [record.message for record in caplog.records] == [said.format(12), said.format(6)]
    seen.clear()
    assert tokens(sampler.sample([policy.encode(p) for p in PROMPTS], 1.0, uniforms)) == expected
    assert max(rows for rows, _ in seen) <= 6  # it is not tried again


def test_what_has_ended_before_memory_runs_out_is_kept(policy, runs_out):
    expected = sample(policy)
    seen = runs_out(RAN_OUT[0], most=8, after=5)
    found = sample(policy)
    assert tokens(found) == tokens(expected)
    for one, other in zip((s for g in found for s in g), (s for g in expected for s in g), strict=True):
        assert one.entropy == pytest.approx(other.entropy, abs=1e-4)
    ended = [count for _, count in seen]
    assert ended == sorted(ended)


@pytest.mark.parametrize("error", RAN_OUT, ids=["gpu", "cpu"])
def test_memory_that_does_not_hold_one_row_is_an_error(policy, runs_out, error):
    runs_out(error, most=0)
    with pytest.raises(RuntimeError) as caught:
        sample(policy)
    assert caught.value is error


def test_any_other_error_is_raised_at_once(policy, runs_out):
    seen = runs_out(RuntimeError("CUDA error: device-side assert"), most=0)
    with pytest.raises(RuntimeError, match="device-side assert"):
        sample(policy)
    assert len(seen) == 1


@pytest.mark.parametrize(("free", "limit", "rows"), [(100, None, 4), (100, 3, 3), (10**6, 3, 3), (10**6, None, 24)])
def test_rows_follow_from_memory_and_the_setting_is_the_most(policy, monkeypatch, free, limit, rows):
    """A quarter of `free` / 100 x 16 rows."""
    expected, run, seen = tokens(sample(policy)), Decoding.run, []
    size = CachedSampler(policy)._memory.bytes(max(len(policy.encode(p)) for p in PROMPTS) + 20)
    monkeypatch.setattr("fedrlvr.learning.memory.free_memory", lambda device: free * size // 100 * 16)
    monkeypatch.setattr(Decoding, "run", lambda self, places: seen.append(places) or run(self, places))
    assert tokens(sample(policy, limit)) == expected
    assert seen == [rows]


def test_the_adapter_is_not_merged_where_memory_has_no_room_for_the_sums(policy, monkeypatch):
    """The second copy of the adapted weights may take a quarter of it."""
    needed, used = sampler_module.bytes_of_sums(policy.model), []
    layer = policy.model.base_model.model.model.layers[0].self_attn.q_proj.lora_A["default"]
    hook = layer.register_forward_hook(lambda *_: used.append(1))
    for free, merges in ((4 * needed, True), (4 * needed - 1, False)):
        monkeypatch.setattr(sampler_module, "free_memory", lambda device, free=free: free)
        sampler = CachedSampler(policy, 24)
        used.clear()
        sampler.sample([policy.encode(PROMPTS[0])], 1.0, torch.rand(2, 3))
        assert (not used) == merges
    hook.remove()


def test_a_prompt_is_sampled_the_same_alone_and_among_others(policy):
    group, length = 6, 20
    uniforms = torch.rand(len(PROMPTS) * group, length, generator=torch.Generator().manual_seed(0))
    alone = CachedSampler(policy, 64).sample([policy.encode(PROMPTS[1])], 1.0, uniforms[group : 2 * group])
    assert [s.token_ids for s in alone[0]] == [s.token_ids for s in sample(policy)[1]]


def test_a_completion_ends_at_the_end_token_or_is_truncated(policy):
    ended = [s for group in sample(policy) for s in group]
    assert any(not s.truncated for s in ended)
    for s in ended:
        assert s.truncated == (s.token_ids[-1] not in policy.eos_ids)
        assert not set(s.token_ids[:-1]) & set(policy.eos_ids)
        assert len(s.logprobs) == len(s.token_ids)
    assert all(s.truncated and len(s.token_ids) == 3 for group in sample(policy, length=3) for s in group)
