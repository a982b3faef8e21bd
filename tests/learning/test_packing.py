"""Where tokens are in a packed sequence, and what they may look at: by hand, and for any rows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.masking_utils import causal_mask_function

from fedrlvr.learning.batch import Row, micro_batches
from fedrlvr.learning.packing import pack

CPU = torch.device("cpu")
A, B = (11, 12), (13, 14, 15)


def test_three_rows_by_hand():
    """Two prompts, then of each completion all but its last token. The second completion is a single token."""
    packing = pack([Row(A, (21, 22, 23)), Row(A, (24,)), Row(B, (25, 26))], CPU)
    assert packing.token_ids.tolist() == [[11, 12, 13, 14, 15, 21, 22, 25]]
    assert packing.position_ids.tolist() == [[0, 1, 0, 1, 2, 2, 3, 3]]
    # 21 and 24 come after 12; 22 and 23 after 21 and 22; 25 after 15 and 26 after 25
    assert packing.predicting.tolist() == [1, 5, 6, 1, 4, 7]
    assert packing.queries.tolist() == list(range(8))
    assert packing.keys.tolist() == [*range(5), 0, 1, 5, 6, 2, 3, 4, 7]
    assert packing.real.tolist() == list(range(8))


def test_a_block_is_padded_to_its_longest_and_padding_is_marked():
    """Prompts of 9 and 10 tokens are of one size, as are completions of 9 and 10."""
    short, long = tuple(range(9)), tuple(range(20, 30))
    packing = pack([Row(short, (*range(40, 49), 0)), Row(long, (*range(50, 58), 0))], CPU)
    prompts, completions = packing.blocks
    assert prompts.real_queries.sum(1).tolist() == [9, 10]
    assert completions.real_queries.sum(1).tolist() == [9, 8]
    assert completions.real_keys.sum(1).tolist() == [9 + 9, 10 + 8]
    assert completions.key_positions[1].tolist() == [*range(10), *range(10, 19)]
    assert packing.token_ids.shape[1] == 9 + 10 + 9 + 8
    padding = set(range(len(packing.queries))) - set(packing.real.tolist())
    assert {int(packing.queries[i]) for i in padding} == {0}


PROMPTS = st.sampled_from([(1,), (1, 2), (3, 4, 5), tuple(range(6, 30))])
ROWS = st.lists(st.builds(Row, PROMPTS, st.lists(st.integers(30, 99), min_size=1, max_size=40).map(tuple)), min_size=1)


def seen_by(packing) -> list[list[int]]:
    """For every packed token, the tokens that it may look at under a causal mask, in their order."""
    seen, keys = [], packing.keys
    for block in packing.blocks:
        sequences, width = block.real_keys.shape
        here, keys = keys[: sequences * width].unflatten(0, (sequences, width)), keys[sequences * width :]
        for s in range(sequences):
            for t in block.real_queries[s].nonzero().flatten().tolist():
                allowed = causal_mask_function(0, 0, block.query_positions[s, t], block.key_positions[s])
                places = here[s][allowed & block.real_keys[s]]
                seen.append(packing.token_ids[0, places].tolist())
    return seen


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_a_token_is_predicted_from_its_prompt_and_what_came_before_it_and_nothing_else(rows):
    packing = pack(rows, CPU)
    seen = seen_by(packing)
    contexts = [seen[place] for place in packing.predicting.tolist()]
    expected = [[*row.prompt_ids, *row.completion_ids[:t]] for row in rows for t in range(len(row.completion_ids))]
    assert contexts == expected
    assert packing.queries[packing.real].tolist() == list(range(len(seen)))
    prompts = {row.prompt_ids for row in rows}
    assert len(seen) == sum(map(len, prompts)) + sum(len(row.completion_ids) - 1 for row in rows)


def test_micro_batches_keep_rows_of_one_prompt_together_short_ones_first():
    rows = [Row(A, (1,) * 3), Row(B, (1,) * 2), Row(A, (1,) * 1), Row(B, (1,) * 9), Row(A, (1,) * 2)]
    assert micro_batches(rows, 2) == [[2, 4], [0, 1], [3]]
    assert micro_batches(rows, 64) == [[2, 4, 0, 1, 3]]
    assert micro_batches([], 64) == []
