"""Pretraining: packing loses nothing, examples do not see each other, runs repeat bit for bit."""

import itertools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM

from tinker_rl.supervised.pretraining import (
    IGNORED,
    PackedBatch,
    PretrainingConfig,
    PretrainingExample,
    learning_rate_at,
    mean_cross_entropy,
    packed_batches,
    pretrain,
)

PAD = 0
VOCABULARY_SIZE = 32


def small_model(seed: int) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=64,
            initializer_range=0.5,  # so that attention makes a difference worth measuring
            tie_word_embeddings=True,
        )
    )


@st.composite
def examples(draw):
    tokens = draw(st.lists(st.integers(1, VOCABULARY_SIZE - 1), min_size=2, max_size=12))
    loss_mask = draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    loss_mask[draw(st.integers(1, len(tokens) - 1))] = True
    return PretrainingExample(tuple(tokens), tuple(loss_mask))


def unpacked(batch: PackedBatch) -> list[PretrainingExample]:
    """The examples of a batch, read back from its tensors; what is padding is left out."""
    found = []
    for tokens, targets, positions in zip(
        batch.tokens_BT.tolist(),
        batch.targets_BT.tolist(),
        batch.positions_BT.tolist(),
        strict=True,
    ):
        starts = [place for place, position in enumerate(positions) if position == 0]
        for start, end in itertools.pairwise([*starts, len(tokens)]):
            assert positions[start:end] == list(range(end - start))
            loss_mask = [target != IGNORED for target in targets[start : end - 1]]
            for place, trains in enumerate(loss_mask, start=start):
                assert not trains or targets[place] == tokens[place + 1]
            assert targets[end - 1] == IGNORED
            if tokens[start] != PAD:
                found.append(PretrainingExample(tuple(tokens[start:end]), (False, *loss_mask)))
    return found


@given(
    pool=st.lists(examples(), min_size=1, max_size=10),
    rows=st.integers(1, 4),
    row_length=st.integers(12, 30),
)
def test_packing_keeps_every_example_whole_and_in_order(pool, rows, row_length):
    config = PretrainingConfig(rows_per_batch=rows, row_length=row_length)
    batches = packed_batches(itertools.cycle(pool), config, PAD)
    found = []
    for batch in itertools.islice(batches, 3):
        assert batch.tokens_BT.shape == (rows, row_length)
        found += unpacked(batch)
    expected = itertools.islice(itertools.cycle(pool), len(found))
    # The first token is never a target, whatever its mask says.
    assert found == [
        PretrainingExample(example.tokens, (False, *example.loss_mask[1:])) for example in expected
    ]


@settings(max_examples=15, deadline=None)
@given(pool=st.lists(examples(), min_size=6, max_size=12), seed=st.integers(0, 100))
def test_packed_examples_have_the_loss_they_have_alone(pool, seed):
    model = small_model(seed)
    config = PretrainingConfig(rows_per_batch=2, row_length=30)
    batch = next(packed_batches(itertools.cycle(pool), config, PAD))
    total, count = 0.0, 0
    with torch.no_grad():
        for example in unpacked(batch):
            logits_TV = model(input_ids=torch.tensor([example.tokens])).logits[0].double()
            logprobs_TV = logits_TV.log_softmax(-1)
            for place, token in enumerate(example.tokens):
                if example.loss_mask[place]:
                    total -= logprobs_TV[place - 1, token].item()
                    count += 1
        packed = mean_cross_entropy(model, batch).item()
    assert packed == pytest.approx(total / count, rel=1e-4, abs=1e-5)


def counting_examples(seed: int):
    """Sequences that count upwards from a random start: easy to learn."""
    rng = random.Random(seed)
    while True:
        start = rng.randint(1, VOCABULARY_SIZE - 9)
        yield PretrainingExample(tuple(range(start, start + 8)), (False,) + (True,) * 7)


TWENTY_STEPS = PretrainingConfig(
    num_steps=20, warmup_steps=2, rows_per_batch=4, row_length=32, learning_rate=1e-2
)


def test_twenty_steps_lower_the_loss_and_repeat_bit_for_bit():
    runs = []
    for _ in range(2):
        model = small_model(seed=3)
        result = pretrain(model, counting_examples(5), TWENTY_STEPS, pad_token=PAD)
        runs.append((result.losses, model.state_dict()))
        assert result.num_tokens == 20 * 4 * 32
        assert sum(result.losses[-5:]) / 5 < 0.8 * sum(result.losses[:5]) / 5
    (first_losses, first_weights), (second_losses, second_weights) = runs
    assert first_losses == second_losses
    assert all(torch.equal(first_weights[name], second_weights[name]) for name in first_weights)


def test_another_seed_gives_other_losses():
    losses = [
        pretrain(small_model(3), counting_examples(seed), TWENTY_STEPS, pad_token=PAD).losses
        for seed in (5, 6)
    ]
    assert losses[0] != losses[1]


@given(num_steps=st.integers(1, 500), warmup_steps=st.integers(0, 500), peak=st.floats(1e-5, 1e-1))
def test_the_learning_rate_rises_to_its_peak_and_then_falls(num_steps, warmup_steps, peak):
    warmup_steps = min(warmup_steps, num_steps)
    config = PretrainingConfig(num_steps=num_steps, warmup_steps=warmup_steps, learning_rate=peak)
    rates = [learning_rate_at(step, config) for step in range(num_steps)]
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates)
    assert max(rates) == pytest.approx(peak)
    rising, falling = rates[:warmup_steps], rates[warmup_steps:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    "values",
    [
        {"num_steps": 0},
        {"rows_per_batch": 0},
        {"row_length": -1},
        {"learning_rate": float("nan")},
        {"warmup_steps": 11, "num_steps": 10},
        {"warmup_steps": -1},
    ],
)
def test_a_configuration_that_cannot_train_is_refused(values):
    with pytest.raises(ValueError, match=r"PretrainingConfig\.\w+: expected .*; got .*\. \w+"):
        PretrainingConfig(**values)


@pytest.mark.parametrize(
    ("tokens", "loss_mask"),
    [((1, 2), (True,)), ((1, 2), (True, False)), ((), ()), ((1,), (True,))],
    ids=["lengths differ", "only the first trains", "empty", "one token"],
)
def test_an_example_that_teaches_nothing_is_refused(tokens, loss_mask):
    with pytest.raises(ValueError, match=r"PretrainingExample\.loss_mask: expected .*; got"):
        PretrainingExample(tokens, loss_mask)


def test_an_example_longer_than_a_row_is_refused():
    config = PretrainingConfig(row_length=4)
    example = PretrainingExample((1, 2, 3, 4, 5), (True,) * 5)
    with pytest.raises(ValueError, match="at most row_length=4 tokens; got 5"):
        next(packed_batches(iter([example]), config, PAD))


def test_running_out_of_examples_says_how_far_they_went():
    few = itertools.islice(counting_examples(1), 20)
    with pytest.raises(ValueError, match="got enough for 1"):
        pretrain(small_model(1), few, TWENTY_STEPS, pad_token=PAD)
