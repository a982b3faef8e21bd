"""What sampling costs beside transformers' `generate`. A whole step is in `step.py`.

    python tests/benchmarks/rollout.py
    python tests/benchmarks/rollout.py --gpu

Medians of several rounds in which the two sides take turns: CPU-seconds of this process on one thread, or with `--gpu`
seconds of a GPU. The model is random and Qwen3-shaped, LoRA r 16: 4 layers x 256 in float32, or with `--gpu` the shape
of Qwen3-0.6B in bfloat16. 8 prompts x 8 completions x 64 (with `--gpu` 256) tokens. "Ends early": every token ends its
completion with a chance of 1 in 17, as a trained model's short answers do. "Merged" is the adapter in the weights,
"refilled" 64 prompts x 8 that end early, 64 at once, beside eight times 64. Drawing is from the logits of 64 rows.

Decode calls are counted on a model of one layer: 2,048 completions, 128 at once, whose lengths are drawn from a
lognormal distribution with a mean of 464 tokens, and cut at 2,048.
"""

import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from fedrlvr.learning.decoding import Decoding
from fedrlvr.learning.draw import draw
from fedrlvr.learning.merged import merged
from fedrlvr.learning.model import Policy
from fedrlvr.learning.sampler import CachedSampler
from fedrlvr.tiny.small_tokenizers import character_tokenizer

GPU = "--gpu" in sys.argv[1:]
DEVICE, DTYPE = ("cuda", torch.bfloat16) if GPU else ("cpu", torch.float32)
VOCABULARY, LENGTH = (151_936, 256) if GPU else (512, 64)
SHAPE = {
    "num_hidden_layers": 28 if GPU else 4,
    "hidden_size": 1024 if GPU else 256,
    "intermediate_size": 3072 if GPU else 704,
    "num_attention_heads": 16 if GPU else 4,
    "num_key_value_heads": 8 if GPU else 4,
    "head_dim": 128 if GPU else 64,
}
PROMPTS, GROUP, ROUNDS = 8, 8, 3 if GPU else 5
LARGE = 151_936  # the vocabulary of Qwen3
EARLY = tuple(range(VOCABULARY - VOCABULARY // 17, VOCABULARY))  # ending tokens, about 1 in 17 of all


def policy(eos_ids: tuple[int, ...]) -> Policy:
    torch.manual_seed(0)
    config = Qwen3Config(vocab_size=VOCABULARY, **SHAPE, tie_word_embeddings=True, pad_token_id=0)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    tokenizer: PreTrainedTokenizerFast = character_tokenizer("x")
    model = Qwen3ForCausalLM(config).to(DEVICE, DTYPE)
    return Policy(get_peft_model(model, lora, autocast_adapter_dtype=False).eval(), tokenizer, eos_ids)


def seconds(work: Callable[[], object]) -> float:
    clock = time.perf_counter if GPU else time.process_time
    began = clock()
    work()
    if GPU:
        torch.cuda.synchronize()
    return clock() - began


def compare(title: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    ours(), theirs()  # warm-up
    times = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    mine, other = (statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(f"| {title} | {mine:.2f} | {other:.2f} | {ratio:.2f} |")


def compare_sampling(title: str, eos_ids: tuple[int, ...]) -> None:
    subject = policy(eos_ids)
    prompts = [tuple(torch.randint(3, VOCABULARY // 2, (24 + i,)).tolist()) for i in range(PROMPTS)]
    uniforms = torch.rand(PROMPTS * GROUP, LENGTH)  # on the CPU, as the trainer draws them
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=DEVICE)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=DEVICE)

    def generate():
        # Log-probabilities are part of the job: the loss needs them.
        return subject.model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            num_return_sequences=GROUP,
            max_new_tokens=LENGTH,
            eos_token_id=list(eos_ids) or None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )

    sampler = CachedSampler(subject, batch_size=PROMPTS * GROUP)
    compare(title, lambda: sampler.sample(prompts, 1.0, uniforms), generate)


def compare_merging() -> None:
    """The same loop with the adapter in the weights, and beside them."""
    subject = policy(())
    prompts = [tuple(torch.randint(3, VOCABULARY // 2, (24 + i,)).tolist()) for i in range(PROMPTS)]
    uniforms = torch.rand(PROMPTS * GROUP, LENGTH)

    @torch.no_grad()
    def beside():
        Decoding(subject, prompts, 1.0, uniforms).run(len(uniforms))

    def within():
        with merged(subject.model):
            beside()

    compare("sampling, adapter merged, beside unmerged", within, beside)


def compare_refilling() -> None:
    subject, batch = policy(EARLY), PROMPTS * GROUP
    prompts = [tuple(torch.randint(3, VOCABULARY // 2, (24 + i % 8,)).tolist()) for i in range(batch)]
    uniforms = torch.rand(batch * GROUP, LENGTH)
    sampler = CachedSampler(subject, batch_size=batch)

    def in_turn():
        for start in range(0, batch, PROMPTS):
            rows = uniforms[start * GROUP : (start + PROMPTS) * GROUP]
            sampler.sample(prompts[start : start + PROMPTS], 1.0, rows)

    compare("sampling, places refilled, beside 64 after 64", lambda: sampler.sample(prompts, 1.0, uniforms), in_turn)


def compare_drawing() -> None:
    logits, uniforms = torch.randn(64, LARGE, device=DEVICE), torch.rand(64, device=DEVICE)

    def plain():
        logprobs = torch.log_softmax(logits, dim=-1)
        cumulative = logprobs.exp().cumsum(-1)
        token = torch.searchsorted(cumulative, uniforms.unsqueeze(-1) * cumulative[:, -1:], right=True)
        return token, logprobs.gather(-1, token), -(logprobs.exp() * logprobs).sum(-1)

    def repeated(work):
        return lambda: [work() for _ in range(20)]

    title = f"drawing 20 tokens of {LARGE:,}, beside softmax and cumulative sum"
    compare(title, repeated(lambda: draw(logits, 1.0, uniforms)), repeated(plain))


def count_decode_calls(places: int = 128, most: int = 2048) -> None:
    drawn = np.random.default_rng(0).lognormal(np.log(351), 0.8, 16 * places)
    lengths = torch.tensor(drawn.round().clip(1, most), dtype=torch.long)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=2, **sizes, **heads)).eval()
    torch.nn.init.zeros_(model.lm_head.weight)  # token 1 comes with u of at least 0.5, and ends the completion
    uniforms = torch.where(torch.arange(most) < lengths.unsqueeze(-1) - 1, 0.25, 0.75)
    tokens = []  # of each forward pass
    model.register_forward_pre_hook(
        lambda _, args, kwargs: tokens.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    policy = SimpleNamespace(model=model, eos_ids=(1,), pad_id=0)
    CachedSampler(policy, places).sample([(0, 0)] * (len(lengths) // GROUP), 1.0, uniforms)
    in_turn = sum(int(part.max()) for part in lengths.split(places))
    print(f"\n{len(lengths):,} completions, mean {lengths.float().mean():.0f} and at most {most:,} tokens:")
    print(f"{tokens.count(1):,} decode calls for at most {places} rows, and prompts read {tokens.count(2):,} times;")
    print(f"{in_turn:,} decode calls where {places} rows wait for each other")


if __name__ == "__main__":
    if GPU:
        print(torch.cuda.get_device_name())
    torch.set_num_threads(1)
    print("| | fedrlvr | beside it | times as fast |\n| --- | --- | --- | --- |")
    compare_sampling(f"sampling, all {LENGTH} tokens, beside `generate`", ())
    compare_sampling("sampling, completions end early, beside `generate`", EARLY)
    compare_merging()
    compare_refilling()
    compare_drawing()
    if not GPU:
        count_decode_calls()
