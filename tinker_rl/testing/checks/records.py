"""What came of playing a scripted group: everything that the properties look at."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from tinker_rl.completers import StopCondition
from tinker_rl.envs import (
    Env,
    EnvGroupBuilder,
    Observation,
    StepResult,
    StopReason,
    Trajectory,
    TrajectoryGroup,
    Transition,
)
from tinker_rl.rl.outcomes import EnvFailure
from tinker_rl.testing.checks.shared_state import SharedState
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.scripts import EpisodeScript, GroupScript
from tinker_rl.types import ModelInput

__all__ = ["Broken", "End", "PlayedEpisode", "PlayedGroup", "Turn"]

End: TypeAlias = Literal["ended", "limit", "unfinished", "broken"]
"""By itself; by a limit of the run; not within the turns that it had; not at all well."""


class Broken(msgspec.Struct, frozen=True):
    """A call that went wrong."""

    where: str
    """The method that was called."""
    how: Literal["raised", "answered", "late", "open"]
    """It raised; its answer is none; it took too long; it left a task group open."""
    failure: EnvFailure
    """As a run would keep it."""
    answer: Any = None
    """What it answered, if that is what was wrong."""
    is_injected: bool = False
    """Whether a completer of the kit raised it on purpose: to let it through is right."""


class Turn(msgspec.Struct, frozen=True):
    """One action and the answer to it."""

    observation: Observation
    stop: StopCondition
    action: DrawnAction
    result: StepResult
    rewrites: bool
    """Whether the environment declared, after it, that its observations may rewrite history."""


@dataclass
class PlayedEpisode:
    """What one member of a group did."""

    member: int
    script: EpisodeScript
    env: Env
    turns: list[Turn] = field(default_factory=list)
    observation: Observation = field(default_factory=ModelInput.empty)
    """The last one."""
    stop: StopCondition = field(default_factory=list)
    """What ends the next action."""
    action: DrawnAction | None = None
    """The one that was not answered, if the episode broke on it."""
    end: End = "broken"
    limit: StopReason | None = None
    """Which limit of the run cut it short."""
    broken: Broken | None = None
    calls: list[tuple[str, float]] = field(default_factory=list)
    """Methods that were called, and the seconds for which each held up the event loop, asleep."""
    after_end: Any = None
    """What a step after the end gave: an error in words is `Broken`; None: nobody tried."""

    @property
    def observations(self) -> list[tuple[Observation, StopCondition]]:
        """What the policy saw, and could act on."""
        seen = [(turn.observation, turn.stop) for turn in self.turns]
        if self.end == "ended" or self.observation.length == 0:
            return seen
        return [*seen, (self.observation, self.stop)]

    @property
    def rewards(self) -> list[float]:
        """Of each turn."""
        return [turn.result.reward for turn in self.turns]

    def trajectory(self) -> Trajectory:
        """The same as a rollout gives it."""
        transitions = [
            Transition(
                ob=turn.observation,
                ac=turn.action.completion(),
                reward=turn.result.reward,
                episode_done=turn.result.episode_done,
                metrics=turn.result.metrics,
                logs=turn.result.logs,
            )
            for turn in self.turns
        ]
        reason = self.limit or (self.turns[-1].result.stop_reason if self.turns else None)
        return Trajectory(transitions, self.observation, reason)


@dataclass
class PlayedGroup:
    """What a whole group did, and what its builder made of that."""

    script: GroupScript
    builder: EnvGroupBuilder
    episodes: list[PlayedEpisode] = field(default_factory=list)
    rewarded: TrajectoryGroup | None = None
    """None where an episode broke, or the rewards did."""
    tags: tuple[str, ...] = ()
    broken: list[Broken] = field(default_factory=list)
    """Calls of the builder that went wrong."""
    acted: list[int] = field(default_factory=list)
    """The members in the order in which they acted, each once for every action."""
    shared: SharedState | None = None
    """What the members share, as it was before they acted; looked for on request."""

    def broken_call(self, *methods: str) -> Broken | None:
        """The first call of one of the builder's methods that went wrong, and not on purpose."""
        own = (broken for broken in self.broken if not broken.is_injected)
        return next((broken for broken in own if broken.where in methods), None)

    def earned(self, episode: PlayedEpisode) -> float:
        """The return of one of the episodes, the group's reward included."""
        final = 0.0 if self.rewarded is None else self.rewarded.final_rewards_G[episode.member]
        return math.fsum((*episode.rewards, final))

    @property
    def outcome(self) -> list[Any]:
        """What two plays under the same seed must agree on."""
        members = [
            (
                [
                    (turn.observation.to_ints(), turn.stop, turn.result.reward)
                    for turn in episode.turns
                ],
                episode.observation.to_ints(),
                episode.stop,
                episode.end,
                episode.broken.failure.error_type if episode.broken else None,
            )
            for episode in self.episodes
        ]
        return [members, self.rewarded.final_rewards_G if self.rewarded else None]
