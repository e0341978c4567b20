"""Whether it fits, and if not, why."""

from __future__ import annotations

import msgspec

from tinker_rl.memory_plan.changes import Change, find_changes
from tinker_rl.memory_plan.learner import LearnerMemory, learner_memory, token_budget
from tinker_rl.memory_plan.problems import find_problems
from tinker_rl.memory_plan.sampler import SamplerMemory, context_tokens, sampler_memory
from tinker_rl.memory_plan.setup import Setup, gigabytes

__all__ = ["MemoryPlan", "plan_memory"]


class MemoryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a setup takes of its device."""

    setup: Setup
    learner: LearnerMemory
    sampler: SamplerMemory | None
    needed_bytes: int
    """Sum of all parts; of the first GPU, on which the learner is."""
    context: int
    """Longest sequence that the sampler has to hold, in tokens."""
    problems: tuple[str, ...]
    """Why it does not fit."""
    changes: tuple[Change, ...]
    """What makes it fit, in this order; empty if it fits, or if nothing does."""
    notes: tuple[str, ...]
    """What to know besides."""

    @property
    def fits(self) -> bool:
        """Whether nothing stands against it."""
        return not self.problems

    @property
    def cache_sequences(self) -> float:
        """How many sequences of the full context the sampler's cache holds."""
        return 0.0 if self.sampler is None else self.sampler.cache_tokens / self.context


def plan_memory(setup: Setup) -> MemoryPlan:
    """Count what a setup takes, and look for changes that make it fit.

    Nothing is loaded: the dimensions of the model are all that is needed of it. Weights, adapter
    and optimiser are exact; for the rest see `learner` and `sampler`.

    Raises:
        ConfigError: if vLLM has no slots for adapters of that rank.
    """
    learner, sampler = learner_memory(setup), sampler_memory(setup)
    problems = find_problems(setup)
    return MemoryPlan(
        setup=setup,
        learner=learner,
        sampler=sampler,
        needed_bytes=learner.total + (0 if sampler is None else sampler.total),
        context=context_tokens(setup),
        problems=problems,
        changes=find_changes(setup) if problems else (),
        notes=() if problems else _notes(setup),
    )


def _notes(setup: Setup) -> tuple[str, ...]:
    budget, longest = token_budget(setup), context_tokens(setup)
    if longest <= budget:
        return ()
    config = msgspec.structs.replace(setup.learner, token_budget=longest)
    longer = learner_memory(msgspec.structs.replace(setup, learner=config)).total
    more = longer - learner_memory(setup).total
    return (
        f"a sequence longer than token_budget={budget} is a micro-batch of its own: one of "
        f"{longest} tokens takes {gigabytes(more)} more in the learner",
    )
