"""A preference judge for tests that does not pretend: it follows a rule, and says so.

A reward that comes from comparisons is hard to test with a real judge, which is a model: slow, and
never sure. `FakeJudge` answers by a rule that the test knows, with the noise and the bias that the
test asks for.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec
from anyio.lowlevel import checkpoint

from tinker_rl.errors import ConfigError, RequestError
from tinker_rl.policies import stable_seed
from tinker_rl.renderers import Message, get_text_content

__all__ = [
    "Comparison",
    "FakeJudge",
    "LabeledComparison",
    "PreferenceModel",
    "Verdict",
    "has_keyword",
    "is_longer",
    "is_shorter",
]

logger = logging.getLogger(__name__)

Label: TypeAlias = Literal["A", "B", "Tie"]


class Comparison(msgspec.Struct, frozen=True):
    """Two answers to one conversation, in the words of the Tinker cookbook."""

    prompt_conversation: list[Message]
    completion_A: list[Message]
    completion_B: list[Message]

    def swap(self) -> Comparison:
        """The same with the answers in the other order."""
        return Comparison(self.prompt_conversation, self.completion_B, self.completion_A)


class LabeledComparison(msgspec.Struct, frozen=True):
    """A comparison and which answer was preferred."""

    comparison: Comparison
    label: Label

    def swap(self) -> LabeledComparison:
        """The same with the answers in the other order."""
        others: dict[Label, Label] = {"A": "B", "B": "A", "Tie": "Tie"}
        return LabeledComparison(self.comparison.swap(), others[self.label])


class PreferenceModel(Protocol):
    """Compares two answers."""

    async def __call__(self, comparison: Comparison) -> float:
        """Which answer is preferred: -1 is A, 0 neither, 1 is B, and all between."""
        ...


Rule: TypeAlias = Callable[[str, str, str], float]
"""From the prompt's last message and two answers, as text, to a preference in [-1, 1]."""


def is_longer(prompt: str, a: str, b: str) -> float:
    """Prefers the longer answer: 1 where it is B."""
    del prompt
    return _sign(len(b) - len(a))


def is_shorter(prompt: str, a: str, b: str) -> float:
    """Prefers the shorter answer: 1 where it is B."""
    return -is_longer(prompt, a, b)


def has_keyword(keyword: str) -> Rule:
    """Prefers the answer that has the keyword more often."""

    def rule(prompt: str, a: str, b: str) -> float:
        del prompt
        return _sign(b.count(keyword) - a.count(keyword))

    rule.__name__ = f"has_keyword({keyword!r})"
    return rule


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a fake judge said, and how it came to that."""

    comparison: Comparison
    by_rule: float
    """What the rule alone says, in [-1, 1]."""
    was_flipped: bool
    """Whether noise turned it round."""
    preference: float
    """What was answered: noise and bias included, in [-1, 1]."""

    def logs(self) -> dict[str, str | float | bool]:
        """For the logs of an environment's step; they say that no judge was asked."""
        return {
            "judge": "FAKE (tinker_rl.testing.FakeJudge): a rule, not a judgement",
            "judge_by_rule": self.by_rule,
            "judge_was_flipped": self.was_flipped,
            "judge_preference": self.preference,
        }

    @property
    def labeled(self) -> LabeledComparison:
        """The comparison with what was answered as its label."""
        label: Label = "Tie" if self.preference == 0 else "B" if self.preference > 0 else "A"
        return LabeledComparison(self.comparison, label)


class FakeJudge:
    """A `PreferenceModel` that follows a rule.

    The same comparison gets the same answer every time, whenever it is asked. Its name, its `repr`
    and what it logs say that it is none.

    Args:
        rule: `is_longer`, `is_shorter`, `has_keyword("please")`, or a function of your own.
        noise: Share of comparisons whose answer is turned round.
        position_bias: Added to every preference before it is cut to [-1, 1]: a judge who likes
            what it reads last has a positive one, and one who likes the first a negative one.
        seed: Decides which answers are turned round.
    Raises:
        ConfigError: if noise or bias are out of range.
    """

    name = "FAKE judge"

    def __init__(
        self, rule: Rule, *, noise: float = 0.0, position_bias: float = 0.0, seed: int = 0
    ) -> None:
        if not 0 <= noise <= 1:
            raise ConfigError(
                f"FakeJudge.noise: expected 0 to 1; got {noise}. Give the share of answers that "
                "are turned round."
            )
        if not -2 <= position_bias <= 2:
            raise ConfigError(
                f"FakeJudge.position_bias: expected -2 to 2; got {position_bias}. 2 always prefers "
                "what comes last."
            )
        self.rule = rule
        self.noise = noise
        self.position_bias = position_bias
        self.seed = seed
        self.verdicts: list[Verdict] = []
        """Every answer so far."""

    def __repr__(self) -> str:
        rule = getattr(self.rule, "__name__", repr(self.rule))
        return (
            f"<{self.name}: the rule {rule}, noise {self.noise}, position bias "
            f"{self.position_bias}; nobody judges>"
        )

    async def __call__(self, comparison: Comparison) -> float:
        """Compare by the rule. Cancelled, it has said nothing.

        Returns:
            -1 where A is preferred, 1 where B is, 0 where neither.
        Raises:
            RequestError: if the rule gives no number in [-1, 1].
        """
        await checkpoint()
        verdict = self._verdict(comparison)
        self.verdicts.append(verdict)
        logger.info("%s says %+.2f", self, verdict.preference)
        return verdict.preference

    def label(self, comparison: Comparison) -> LabeledComparison:
        """A comparison labelled by the judge, to train a preference model or DPO on."""
        return self._verdict(comparison).labeled

    def _verdict(self, comparison: Comparison) -> Verdict:
        prompt = _text(comparison.prompt_conversation[-1:])
        a, b = _text(comparison.completion_A), _text(comparison.completion_B)
        by_rule = float(self.rule(prompt, a, b))
        if not -1 <= by_rule <= 1:  # NaN is not in it either
            raise RequestError(
                f"{self!r}: expected its rule to give a preference in [-1, 1]; got {by_rule}. "
                "Return -1 where A is better, 1 where B is."
            )
        was_flipped = self._draw(prompt, a, b) < self.noise
        preference = (-by_rule if was_flipped else by_rule) + self.position_bias
        return Verdict(
            comparison=comparison,
            by_rule=by_rule,
            was_flipped=was_flipped,
            preference=max(-1.0, min(1.0, preference)),
        )

    def _draw(self, prompt: str, a: str, b: str) -> float:
        """A number in [0, 1) that depends on the texts, whatever their order: noise is no bias."""
        return random.Random(stable_seed("judge", self.seed, prompt, *sorted((a, b)))).random()


def _text(messages: Sequence[Message]) -> str:
    return "\n".join(get_text_content(message) for message in messages)


def _sign(value: float) -> float:
    return math.copysign(1.0, value) if value else 0.0
