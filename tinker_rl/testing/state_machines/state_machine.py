"""Checks the logic of several turns against a simple model: a state machine for Hypothesis.

Hypothesis draws the moves, the environment and the user's model both make them, and must agree. A
failing run is shrunk to few and simple moves, and printed as a script with its transcript.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tinker_rl.envs import (
    Env,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    ProblemGroupBuilder,
    StepResult,
)
from tinker_rl.errors import RequestError
from tinker_rl.renderers import Message
from tinker_rl.testing.state_machines.living_group import LivingGroup
from tinker_rl.testing.state_machines.played_member import PlayedMember

__all__ = ["EnvStateMachine", "machine_settings", "run_env_state_machine", "turn"]

Written: TypeAlias = str | Message | Sequence[int]
"""An action: a text, a message of the assistant's, or tokens with the one that ends them."""

F = TypeVar("F", bound=Callable[..., Any])


def turn(**strategies: st.SearchStrategy[Any]) -> Callable[[F], F]:
    """A rule of Hypothesis that is chosen only while an episode of the group goes on."""

    def decorate(function: F) -> F:
        goes_on: Any = precondition(lambda machine: bool(machine.active))
        make: Any = rule  # its overloads know no dictionaries
        made: Any = make(**strategies)
        return goes_on(made(function))

    return decorate


class EnvStateMachine(RuleBasedStateMachine):
    """Plays a group in an event loop of its own, one rule a move. Derive from it:

    - `make_env` or `make_builder`: what is played, made anew for each run;
    - `make_model`: a simple model of yours of what should happen, which becomes `self.model`;
    - methods marked with `@turn(...)`: call `self.act(...)`, do the same to the model, compare.

    After each action it checks what every environment must keep: the answer is one, rewards are
    finite, the observation extends the last one unless `rewrites_history` says otherwise, the
    episode ends within `max_turns`, and when it is over a further step of an `Env` raises (a
    `MessageEnv` is not asked for one: `EnvFromMessageEnv` raises). At the end group rewards are
    asked for and `cleanup` is called, once.

    Run it as `TestMine = Mine.TestCase` in a test file, or with `run_env_state_machine(Mine)`.
    """

    backend: ClassVar[str] = "trio"
    """Event loop of the environment; time in it is virtual."""
    max_turns: ClassVar[int | None] = None
    """Actions within which an episode must end; None: it may go on."""
    step_seconds: ClassVar[float] = 600.0
    """Longest that a call may take, in virtual seconds."""
    pending_seconds: ClassVar[float] = 10.0
    """So long a call may take before it counts as waiting for another member."""
    cleanup_seconds: ClassVar[float] = 30.0
    """Longest that the clean-up may take, in virtual seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Any = None
        """What `make_model` gave."""
        self.seed = 0
        """What the environment's `current_rng()` is seeded from."""
        self.members: list[PlayedMember] = []
        """The episodes of the group: observations, results, transcript."""
        self.group_rewards: list[float] = []
        """What `compute_group_rewards` gave, once all is over; for a `teardown` of your own."""
        self._group: LivingGroup | None = None
        self._num_cleanups = 0

    # --------------------------------------------------------------------------------- to write

    def make_env(self) -> Env | MessageEnv:
        """One environment; for a group of one."""
        raise NotImplementedError(
            f"{type(self).__name__}: expected make_env or make_builder; got neither. Define one "
            "that returns what is to be played."
        )

    def make_builder(self) -> EnvGroupBuilder:
        """The builder of a group; by default, of one environment from `make_env`."""
        return _OneEnv(self.make_env)  # pyright: ignore[reportArgumentType]

    def make_model(self) -> Any:
        """The model; called when the first observations are there."""
        return None

    # ---------------------------------------------------------------------------------- to call

    def act(
        self, action: Written, member: int = 0, *, stop_reason: str = "stop"
    ) -> StepResult | MessageStepResult | None:
        """Let a member act, and check what comes back.

        Args:
            action: What it writes.
            member: Who.
            stop_reason: `length` for an action that was cut off.
        Returns:
            What `step` gave; None if it waits for another member: `result(member)` has it later.
        Raises:
            AssertionError: if the answer breaks a rule that every environment keeps.
            RequestError: if the member's episode is over, or it waits already.
        """
        played = self.members[member]
        if member not in self.active:
            state = "is over" if played.is_over else "waits for another member"
            raise RequestError(
                f"{type(self).__name__}.act: expected a member who can act: {self.active}; got "
                f"{member}, whose episode {state}. Mark the rule with @turn, or give it a "
                "@precondition."
            )
        written, options = played.write(action, stop_reason)
        result = self._living.call(member, "step", written, **options)
        self._take_over()
        return result

    @property
    def active(self) -> tuple[int, ...]:
        """Members who can act."""
        return tuple(i for i, played in enumerate(self.members) if played.can_act)

    @property
    def is_over(self) -> bool:
        """Whether every episode has ended."""
        return bool(self.members) and all(played.is_over for played in self.members)

    def result(self, member: int = 0) -> StepResult | MessageStepResult | None:
        """The last answer of `step`; None if there is none yet."""
        results = self.members[member].results
        return results[-1] if results else None

    def shown(self, member: int = 0) -> str:
        """The text that the member was shown last.

        Of a `MessageEnv`, also inside an `EnvFromMessageEnv`, that is the text of the last message;
        of another `Env` all that came since the action, as its tokens read.
        """
        return self.members[member].shown

    # ------------------------------------------------------------------------------------ rules

    @initialize(seed=st.integers(0, 2**31 - 1))
    def begin(self, seed: int) -> None:
        """Make the group and ask for the first observations."""
        self.seed = seed
        builder = self.make_builder()
        cleanup = builder.cleanup

        async def counted() -> None:
            self._num_cleanups += 1
            await cleanup()

        object.__setattr__(builder, "cleanup", counted)
        self._group = LivingGroup(
            builder,
            seed=seed,
            backend=self.backend,
            step_seconds=self.step_seconds,
            pending_seconds=self.pending_seconds,
            cleanup_seconds=self.cleanup_seconds,
        )
        self._group.open()
        self.members = [
            PlayedMember(member, place, self.max_turns)
            for place, member in enumerate(self._group.members)
        ]
        self._take_over()
        self.model = self.make_model()

    @precondition(lambda self: not self.active)
    @rule()
    def step_after_the_end(self) -> None:
        """What is over does not go on; for a `MessageEnv` its adapter sees to that."""
        for place, played in enumerate(self.members):
            if not (played.is_of_tokens and played.is_over) or played.was_tried_after_end:
                continue
            played.was_tried_after_end = True
            try:
                answer = self._living.call(place, "step", *played.last_call())
            except Exception:
                continue
            raise AssertionError(
                f"{played.name}.step: expected an error after the end of the episode; got "
                f"{type(answer).__name__}. Remember that it is over, and raise."
            )

    def teardown(self) -> None:
        """Ask for group rewards if all is over, clean up, and show what was played."""
        transcript = "\n".join(line for played in self.members for line in played.transcript)
        note(f"# what was played:\n{transcript}")
        if self._group is None:
            return
        group, self._group = self._group, None
        try:
            if self.is_over and all(played.is_of_tokens for played in self.members):
                self.group_rewards = self._rewards(group)
        finally:
            group.close()
        if self._num_cleanups != 1:
            raise AssertionError(
                f"{type(group.builder).__name__}.cleanup: expected one call, by the run; got "
                f"{self._num_cleanups}. Do not call it from the environment."
            )

    # ----------------------------------------------------------------------------------- inside

    def _rewards(self, group: LivingGroup) -> list[float]:
        rewards = [r for r, _ in group.rewards([played.trajectory() for played in self.members])]
        if not all(map(math.isfinite, rewards)):
            raise AssertionError(
                f"{type(group.builder).__name__}.compute_group_rewards: expected finite rewards; "
                f"got {rewards}. Look at what they are divided by."
            )
        return rewards

    @property
    def _living(self) -> LivingGroup:
        if self._group is None:
            raise RequestError(
                f"{type(self).__name__}: expected the group to be played; it has not begun, or is "
                "closed. Act from rules."
            )
        return self._group

    def _take_over(self) -> None:
        for played in self.members:
            played.take_over()


class _OneEnv(ProblemGroupBuilder):
    """A group of one."""

    def __init__(self, make_env: Callable[[], Any]) -> None:
        super().__init__(make_env, num_envs=1)


_PHASES = tuple(phase for phase in Phase if phase is not Phase.explain)  # that one traces lines


def machine_settings(max_examples: int = 50, max_steps: int = 20, **options: Any) -> settings:
    """Settings of Hypothesis for a state machine: no deadline, the same runs every time.

    Args:
        max_examples: Runs.
        max_steps: Rules of each.
        options: Others of `hypothesis.settings`; `derandomize=False` draws new runs each time.
    """
    given: dict[str, Any] = {
        "max_examples": max_examples,
        "stateful_step_count": max_steps,
        "deadline": None,
        "derandomize": True,
        "database": None,
        "report_multiple_bugs": False,
        "phases": _PHASES,
        "suppress_health_check": list(HealthCheck),
        **options,
    }
    return settings(**given)


def run_env_state_machine(
    machine: type[EnvStateMachine], max_examples: int = 50, max_steps: int = 20, **options: Any
) -> None:
    """Run a state machine; takes what `machine_settings` takes.

    Raises:
        AssertionError: or whatever else the environment or the machine raised, in the smallest run
            that does; its script and its transcript are printed.
    """
    run_state_machine_as_test(
        machine, settings=machine_settings(max_examples, max_steps, **options)
    )
