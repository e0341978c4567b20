import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinker_rl.engine.samplers.embedded.draw import draw, log_distribution, uniforms

logits = st.lists(
    st.integers(-400, 400).map(lambda n: n / 16), min_size=2, max_size=12, unique=True
)
row = st.tuples(
    st.just(1.0) | st.floats(1 / 16, 5, width=32),
    st.just(-1) | st.integers(1, 14),
    st.just(1.0) | st.floats(0.125, 1, width=32),
)


def reference(values, temperature, top_k, top_p):
    """The distribution in float64, what is cut off, and how near it is to being cut otherwise."""
    scaled = np.asarray(values, np.float64) / temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    kept = order[: top_k if top_k > 0 else len(p)]
    within = p[kept] / p[kept].sum()
    before = np.cumsum(within) - within
    margin = np.abs(before - top_p).min() if top_p < 1 else 1.0
    if top_p < 1:
        kept = kept[before < top_p]
    out, cut = np.zeros_like(p), np.ones_like(p, dtype=bool)
    out[kept], cut[kept] = p[kept] / p[kept].sum(), False
    return out, cut, margin


def distribution(rows, settings_):
    columns = list(zip(*settings_, strict=True))
    return log_distribution(
        torch.tensor(rows),
        torch.tensor(columns[0]),
        torch.tensor(columns[1]),
        torch.tensor(columns[2]),
    )


@given(values=logits, settings_=st.lists(row, min_size=1, max_size=4))
@settings(max_examples=200)
def test_each_row_has_the_distribution_of_its_own_settings(values, settings_):
    expected = [reference(values, *s) for s in settings_]
    assume(all(margin > 1e-5 for _, _, margin in expected))
    got = distribution([values] * len(settings_), settings_)
    np.testing.assert_allclose(got.exp(), [p for p, _, _ in expected], rtol=1e-4, atol=1e-7)
    for (_, cut, _), logprobs in zip(expected, got, strict=True):
        assert (np.isneginf(logprobs.numpy()) >= cut).all()


@given(values=logits, others=st.lists(row, max_size=3), own=row)
def test_a_row_does_not_depend_on_those_beside_it(values, others, own):
    assume(reference(values, *own)[2] > 1e-5)
    alone = distribution([values], [own])[0]
    among = distribution([values] * (len(others) + 1), [*others, own])[-1]
    np.testing.assert_allclose(alone, among, rtol=1e-5, atol=1e-5)


@given(values=logits, own=row, count=st.just(2000))
@settings(max_examples=50)
def test_tokens_come_in_proportion_to_their_probability(values, own, count):
    logprobs = distribution([values], [own])
    evenly = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    ones = torch.ones(count)
    tokens, drawn = draw(logprobs.expand(count, -1), ones, evenly)
    shares = torch.bincount(tokens, minlength=len(values)) / count
    assert (shares - logprobs[0].exp()).abs().max() <= 1.5 / count
    torch.testing.assert_close(drawn, logprobs[0][tokens])
    assert torch.isfinite(drawn).all()  # what was cut off is never drawn


@given(values=logits, own=row)
def test_the_ends_of_the_unit_interval_draw_tokens_that_can_be(values, own):
    logprobs = distribution([values], [own]).expand(2, -1)
    ends = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    _, drawn = draw(logprobs, torch.ones(2), ends)
    assert torch.isfinite(drawn).all()


@given(values=logits, own=row, other=row, u=st.floats(0, 1, exclude_max=True))
def test_temperature_zero_is_greedy_and_reports_the_whole_untempered_distribution(
    values, own, other, u
):
    greedy = (0.0, *own[1:])  # top_k and top_p say nothing then
    logprobs = distribution([values] * 2, [greedy, other])
    temperature = torch.tensor([0.0, other[0]])
    uniform = torch.tensor([u, u], dtype=torch.float64)
    tokens, drawn = draw(logprobs, temperature, uniform)
    assert tokens[0].item() == int(np.argmax(values))
    expected = torch.tensor(values, dtype=torch.float64).log_softmax(0)
    np.testing.assert_allclose(logprobs[0], expected, atol=1e-5, rtol=1e-5)
    assert drawn[0].item() == pytest.approx(expected.max().item(), abs=1e-5)


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-38])
def test_a_temperature_near_zero_is_almost_greedy(temperature):
    logprobs = distribution([[1.0, 30.0, -5.0]], [(temperature, -1, 1.0)])
    assert logprobs[0].exp().tolist() == [0.0, 1.0, 0.0]
    token, drawn = draw(logprobs, torch.ones(1), torch.tensor([0.999], dtype=torch.float64))
    assert (token.item(), drawn.item()) == (1, 0.0)


seeds = st.integers(-(2**70), 2**70)


@given(seed=seeds, sample=st.integers(0, 10_000), count=st.integers(1, 50), more=st.integers(0, 50))
def test_the_numbers_of_a_sample_depend_on_its_seed_and_index_alone(seed, sample, count, more):
    numbers = uniforms(seed, sample, count)
    assert (numbers == uniforms(seed, sample, count + more)[:count]).all()
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert not (numbers == uniforms(seed, sample + 1, count)).all()
    assert not (numbers == uniforms(seed + 1, sample, count)).all()


def test_the_numbers_are_uniform():
    numbers = np.concatenate([uniforms(seed, 0, 100) for seed in range(100)])
    counts, _ = np.histogram(numbers, bins=10, range=(0, 1))
    assert abs(counts - 1000).max() < 150  # five standard deviations
