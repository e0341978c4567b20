"""Logprobs and their gradients without all logits at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tinker_rl.engine.scoring import loss_and_gradient, token_logprobs

VOCAB, WIDTH = 50, 8


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.numel())
        return out


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr("tinker_rl.engine.scoring.logits_chunk", lambda vocab_size, device: 4)


def draw(rows, asks, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64)
    row_A = torch.randint(0, rows, (asks,), generator=generator).sort().values
    token_A = torch.randint(0, VOCAB, (asks,), generator=generator)
    head = torch.nn.Linear(WIDTH, VOCAB, bias=False).double()
    with torch.no_grad():
        head.weight.copy_(torch.randn(VOCAB, WIDTH, generator=generator))
    return hidden.float(), row_A, token_A, head.float(), torch.randn(asks, generator=generator)


@given(rows=st.integers(1, 30), asks=st.integers(1, 60), seed=st.integers(0, 999))
@settings(max_examples=40)
def test_chunks_give_the_numbers_of_the_whole(rows, asks, seed):
    """Several asks at a row, or none; by both ways; against float64."""
    hidden, row_A, token_A, head, weight_A = draw(rows, asks, seed)
    exact = hidden.double().requires_grad_()
    weight = head.weight.detach().double().requires_grad_()
    expected = (exact @ weight.T).log_softmax(-1)[row_A, token_A]
    (weight_A * expected).sum().backward()

    one = hidden.clone().requires_grad_()
    logprobs = token_logprobs(one, row_A, token_A, head, VOCAB)
    (weight_A * logprobs).sum().backward()
    grads = [(logprobs.detach(), one.grad, head.weight.grad)]
    head.zero_grad()
    other = hidden.clone().requires_grad_()
    logprobs, loss, grad = loss_and_gradient(
        other, row_A, token_A, head, VOCAB, lambda lp, part: weight_A[part] * lp
    )
    grads.append((logprobs, grad, head.weight.grad))
    torch.testing.assert_close(
        loss.double(), (weight_A * expected.detach()).sum(), rtol=1e-5, atol=1e-4
    )
    for got in grads:
        wanted = (expected.detach(), exact.grad, weight.grad)
        for value, reference in zip(got, wanted, strict=True):
            torch.testing.assert_close(value.double(), reference, rtol=1e-4, atol=1e-4)


def test_no_tensor_grows_with_tokens_times_vocabulary():
    """Neither forward nor backward, by either way."""
    hidden, row_A, token_A, head, _ = draw(400, 400, 0)
    head.requires_grad_(False)
    with Largest() as largest:
        token_logprobs(hidden.requires_grad_(), row_A, token_A, head, VOCAB).sum().backward()
        loss_and_gradient(hidden, row_A, token_A, head, VOCAB, lambda lp, part: -lp)
    assert largest.elements == 400 * WIDTH < 400 * VOCAB


def test_a_hidden_state_that_needs_no_gradient_gets_none():
    """An adapter on the unembedding alone."""
    hidden, row_A, token_A, head, _ = draw(9, 12, 0)
    _, _, grad = loss_and_gradient(hidden, row_A, token_A, head, VOCAB, lambda lp, part: -lp)
    assert grad is None
    assert head.weight.grad is not None
