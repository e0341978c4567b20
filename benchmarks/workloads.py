"""What a learner is asked to do: sequences, and the loss at each of their positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from tinker_rl import Datum, ModelInput


@dataclass(frozen=True)
class Workload:
    """One request of a learner."""

    loss_fn: str
    data: list[Datum]

    @property
    def rows(self) -> list[list[int]]:
        """Token ids of each sequence."""
        return [datum.model_input.to_ints() for datum in self.data]

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(map(len, self.rows))

    @property
    def padded_tokens(self) -> int:
        """The same if every sequence were as long as the longest."""
        return len(self.rows) * max(map(len, self.rows))

    @property
    def unique_tokens(self) -> int:
        """Nodes of the tree of prefixes: what a learner computes that shares all it can."""
        nodes: dict[tuple[int, int], int] = {}
        for row in self.rows:
            node = 0
            for token in row:
                node = nodes.setdefault((node, token), len(nodes) + 1)
        return len(nodes)

    def with_sampler_logprobs(self, logprobs: list[np.ndarray]) -> Workload:
        """As if a sampler that differs a little from the learner had given the actions."""
        generator = np.random.default_rng(1)
        data = [
            Datum(
                datum.model_input,
                {**datum.loss_fn_inputs, "logprobs": own + generator.normal(0, 0.05, own.shape)},
            )
            for datum, own in zip(self.data, logprobs, strict=True)
        ]
        return replace(self, data=data)


def _supervised(tokens: np.ndarray, first_action: int = 1) -> Datum:
    """Cross-entropy on `tokens` from `first_action` on."""
    weights = np.arange(1, len(tokens)) >= first_action
    return Datum(
        ModelInput.from_ints(tokens[:-1].tolist()),
        {"target_tokens": tokens[1:], "weights": weights.astype(np.float32)},
    )


def equal(vocab: int, generator: Generator) -> Workload:
    """32 sequences of 256 tokens."""
    rows = generator.integers(0, vocab, (32, 257))
    return Workload("cross_entropy", [_supervised(row) for row in rows])


def ragged(vocab: int, generator: Generator) -> Workload:
    """64 sequences of 32 to 512 tokens."""
    lengths = generator.integers(32, 513, 64)
    rows = [generator.integers(0, vocab, length + 1) for length in lengths]
    return Workload("cross_entropy", [_supervised(row) for row in rows])


def group(vocab: int, generator: Generator, groups: int = 2, answers: int = 16) -> Workload:
    """Groups of 16 answers of 100 tokens to one prompt of 300, as RL has them."""
    data: list[Datum] = []
    for _ in range(groups):
        prompt = generator.integers(0, vocab, 300)
        for _ in range(answers):
            tokens = np.concatenate([prompt, generator.integers(0, vocab, 100)])
            is_action = np.arange(1, len(tokens)) >= len(prompt)
            # Not centred, so that the loss is not a small difference of large terms.
            advantages = np.where(is_action, generator.uniform(-0.5, 1.5), 0.0)
            inputs = {
                "target_tokens": tokens[1:],
                "logprobs": np.where(is_action, -np.log(vocab), 0.0),
                "advantages": advantages,
            }
            data.append(Datum(ModelInput.from_ints(tokens[:-1].tolist()), inputs))
    return Workload("importance_sampling", data)


def episode(vocab: int, generator: Generator) -> Workload:
    """4 episodes of 6 turns, observation and action of 40 tokens each; a sequence for each turn."""
    data: list[Datum] = []
    for _ in range(4):
        tokens = generator.integers(0, vocab, 6 * 80)
        data += [_supervised(tokens[:stop], stop - 40) for stop in range(80, 481, 80)]
    return Workload("cross_entropy", data)


WORKLOADS: dict[str, Callable[[int, Generator], Workload]] = {
    "equal": equal,
    "ragged": ragged,
    "group": group,
    "episode": episode,
}
