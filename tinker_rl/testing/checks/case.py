"""One case of a check: a scripted group, played as often as the properties need."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import anyio
import msgspec

from tinker_rl.envs import EnvGroupBuilder
from tinker_rl.testing.checks.baton import Order
from tinker_rl.testing.checks.playing import PlaySettings, play_group
from tinker_rl.testing.checks.records import PlayedGroup
from tinker_rl.testing.checks.shared_state import SharedState
from tinker_rl.testing.checks.variant import FIRST, Variant
from tinker_rl.testing.clock import virtual_clock
from tinker_rl.testing.strategies.scripts import GroupScript
from tinker_rl.testing.strategies.token_space import TokenSpace

__all__ = ["Case", "Claims", "Finding", "Loop", "Property", "Setup"]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What an author says of an environment."""

    deterministic: bool = True
    """The same seed gives the same episode."""
    max_turns: int | None = None
    """Turns within which an episode ends by itself; None: nothing is said."""
    reward_range: tuple[float, float] | None = None
    """Least and greatest reward of an episode, the group's included."""
    context_window: int | None = None
    """Tokens that an observation must leave room in."""


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """On which event loops groups are played."""

    backend: str = "trio"
    virtual_time: bool = False
    """Whether sleeps and deadlines pass at once."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run an async function on an event loop of its own."""
        options = virtual_clock(self.backend) if self.virtual_time else None
        return anyio.run(function, *args, backend=self.backend, backend_options=options)


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked, and how."""

    fresh: Callable[[], EnvGroupBuilder]
    """Makes the builder anew, for one group."""
    claims: Claims
    settings: PlaySettings
    loop: Loop
    space: TokenSpace
    size: int
    """Members of the group."""
    linked: bool
    """Whether the members depend on each other."""
    knows_answer: bool = False
    """Whether the environments are problems that know their answers."""
    valid: tuple[str, ...] | None = ()
    """What the author says a good policy writes, as far as it is text; None: only drawn."""
    shared: SharedState | None = None
    """What environments share, as it was before any had acted."""
    from_envs: bool = False
    """Whether the builder is ours, around a function that makes environments."""
    seconds: float = 60.0
    """Real seconds after which no more cases are played."""

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run an async function on an event loop of its own."""
        return self.loop.run(function, *args)


class Case:
    """A script, and what comes of it."""

    def __init__(self, setup: Setup, script: GroupScript) -> None:
        self.setup = setup
        self.script = script
        self.memory: dict[str, Any] = {}
        """What properties have found out together."""

    @cached_property
    def group(self) -> PlayedGroup:
        """One member after the other; all at once if they depend on each other."""
        return self.play(self.order)

    @cached_property
    def other(self) -> PlayedGroup:
        """The same with the members in turn, and other global random numbers."""
        order: Order = "free" if self.setup.linked else "interleaved"
        return self.play(order, Variant(salt=1))

    @property
    def order(self) -> Order:
        """In which the members act, unless something else is said."""
        return "free" if self.setup.linked else "serial"

    def play(
        self,
        order: Order,
        variant: Variant = FIRST,
        *,
        watch: bool = False,
        builder: EnvGroupBuilder | None = None,
    ) -> PlayedGroup:
        """Play the script anew, on an event loop of its own."""
        setup = self.setup
        play = partial(play_group, watch=watch)
        fresh = builder or setup.fresh()
        return setup.run(play, fresh, self.script, setup.settings, order, variant)


class Finding(msgspec.Struct, frozen=True):
    """What breaks a property."""

    text: str
    """What was expected, what came, what to do."""
    location: str = ""
    """`file:line` of the user's code."""
    member: int | None = None
    """Place of the episode in its group."""
    other: PlayedGroup | None = None
    """A second play of the same script, with which the first was compared."""
    orders: tuple[str, str] = ("", "")
    """How the members acted in the two plays, in words."""


class Property(msgspec.Struct, frozen=True):
    """A rule that every environment must keep."""

    name: str
    claim: str
    """The rule in one sentence."""
    check: Callable[[Case], Finding | None]
    skipped: Callable[[Setup], str] = lambda _: ""
    """Why it says nothing about what is checked; empty if it does."""
    once: bool = False
    """Whether one case says all."""
    last: bool = False
    """Whether it is looked at after all others, so that it hides no worse finding. What is played
    does not matter to it, and is not shown."""
    compares: bool = False
    """Whether it takes a second play."""
