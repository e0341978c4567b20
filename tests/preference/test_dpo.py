import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import AdamParams, Datum, ModelInput, ServiceClient
from tinker_rl.errors import RequestError, ShapeError
from tinker_rl.preference import dpo_loss, interleave_pairs

torch.set_num_threads(1)

logprob = st.floats(-20, 0, width=32)
answer = st.lists(
    st.tuples(logprob, logprob, st.sampled_from([0.0, 1.0, 0.5])), min_size=1, max_size=5
)


def datum(length, weights=None):
    weights = [1.0] * length if weights is None else weights
    tokens = list(range(1, length + 1))
    return Datum(ModelInput.from_ints(tokens), {"target_tokens": tokens, "weights": weights})


@given(pairs=st.lists(st.tuples(answer, answer), min_size=1, max_size=4), beta=st.floats(0.01, 1))
@settings(deadline=None)  # the first call of torch takes its time
def test_loss_gradient_and_metrics_equal_the_formula(pairs, beta):
    answers = [answer for pair in pairs for answer in pair]
    data = [datum(len(answer), [w for _, _, w in answer]) for answer in answers]
    logprobs = [torch.tensor([lp for lp, _, _ in a], requires_grad=True) for a in answers]
    reference = [[q for _, q, _ in answer] for answer in answers]
    loss, metrics = dpo_loss(reference, beta)(data, logprobs)
    loss.backward()
    rewards = [beta * sum(w * (lp - q) for lp, q, w in answer) for answer in answers]
    margins = [c - r for c, r in zip(rewards[::2], rewards[1::2], strict=True)]
    losses = [math.log1p(math.exp(-m)) if m > 0 else -m + math.log1p(math.exp(m)) for m in margins]
    assert float(loss.detach()) == pytest.approx(np.mean(losses), rel=1e-4, abs=1e-4)
    assert metrics["margin"] == pytest.approx(np.mean(margins), rel=1e-4, abs=1e-4)
    assert metrics["chosen_reward"] == pytest.approx(np.mean(rewards[::2]), rel=1e-4, abs=1e-4)
    assert metrics["rejected_reward"] == pytest.approx(np.mean(rewards[1::2]), rel=1e-4, abs=1e-4)
    for number, (own, answer) in enumerate(zip(logprobs, answers, strict=True)):
        pull = beta / (1 + math.exp(margins[number // 2])) / len(pairs)
        expected = [(-pull if number % 2 == 0 else pull) * w for _, _, w in answer]
        np.testing.assert_allclose(own.grad, expected, rtol=1e-3, atol=1e-5)


def test_a_learner_comes_to_prefer_what_was_chosen():
    """And an adapter that has not trained is its own reference: loss log 2, no margin."""
    chosen, rejected = datum(8), datum(8)
    rejected = Datum(
        rejected.model_input, {"target_tokens": [9] * 8, "weights": [0.0] * 4 + [1.0] * 4}
    )
    data = interleave_pairs([chosen], [rejected])
    with ServiceClient() as service:
        client = service.create_lora_training_client("tiny", rank=4, seed=0)
        outputs = client.forward(data, "cross_entropy").result().loss_fn_outputs
        loss = dpo_loss([out["logprobs"].to_torch() for out in outputs])
        first = client.forward_backward_custom(data, loss).result().metrics
        assert first["loss:sum"] == pytest.approx(math.log(2), abs=1e-4)
        assert first["margin:mean"] == pytest.approx(0, abs=1e-4)
        assert first["unique_tokens:sum"] == 8  # one prompt, two targets
        for _ in range(5):
            client.optim_step(AdamParams(learning_rate=1e-3))
            last = client.forward_backward_custom(data, loss).result().metrics
        assert last["loss:sum"] < 0.9 * first["loss:sum"]
        assert last["accuracy:mean"] == 1
        with pytest.raises(RequestError, match="expected pairs"):
            client.forward_backward_custom(data[:1], loss).result()


def test_each_chosen_answer_has_a_partner():
    with pytest.raises(ShapeError, match="2 chosen and 1 rejected"):
        interleave_pairs([datum(2), datum(3)], [datum(2)])
