"""Environments and what comes out of them, in the words of the Tinker cookbook.

An `Env` is acted in once, by one policy. An `EnvGroupBuilder` makes the environments of one group,
whose rewards are compared. An `RLDataset` yields batches of these builders.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, TypeAlias, TypedDict

import chz
import msgspec

from tinker_rl.completers.types import StopCondition, TokensWithLogprobs
from tinker_rl.envs.blocking import RunsIn
from tinker_rl.envs.reports import Logs, Metrics, plain_logs, plain_metrics, plain_reward
from tinker_rl.errors import RequestError, ShapeError, UnknownNameError, choices
from tinker_rl.types import ModelInput
from tinker_rl.types import StopReason as SamplingStopReason

__all__ = [
    "Action",
    "ActionExtra",
    "Env",
    "EnvGroupBuilder",
    "Logprobs",
    "Logs",
    "Metrics",
    "Observation",
    "RLDataset",
    "RLDatasetBuilder",
    "StepResult",
    "StopReason",
    "Trajectory",
    "TrajectoryGroup",
    "Transition",
]

Action: TypeAlias = list[int]
"""Token ids that the policy sampled, the stop token included."""
Observation: TypeAlias = ModelInput
Logprobs: TypeAlias = list[float]


class StopReason(StrEnum):
    """Why an episode ended: the task ended (`terminated`), or a limit cut it short (`truncated`).

    The closed set of the Tinker cookbook; not to be confused with a completion's `stop_reason`.
    """

    COMPLETED = "completed"
    """The task ended by itself."""
    TOOL_STOPPED = "tool_stopped"
    """A tool ended the episode."""
    PARSE_ERROR = "parse_error"
    """The policy wrote what the environment cannot read, and the environment ends on that."""
    MAX_TURNS = "max_turns"
    MAX_TOKENS = "max_tokens"
    """The tokens of the episode, or of a turn, were used up."""
    MAX_SAMPLED_TOKENS = "max_sampled_tokens"
    MAX_TOOL_CALLS = "max_tool_calls"
    CONTEXT_OVERFLOW = "context_overflow"
    """The next observation leaves no room for an action."""
    ROLLOUT_TIMEOUT = "rollout_timeout"

    @property
    def truncated(self) -> bool:
        """Whether a limit cut the episode short."""
        return self not in _TERMINATIONS

    @property
    def terminated(self) -> bool:
        """Whether the task ended."""
        return self in _TERMINATIONS


_TERMINATIONS = frozenset({StopReason.COMPLETED, StopReason.TOOL_STOPPED, StopReason.PARSE_ERROR})


def stop_reason_of(where: str, value: StopReason | str | None) -> StopReason | None:
    if value is None:
        return None
    try:
        return StopReason(value)
    except ValueError as error:
        raise UnknownNameError(
            f"{where}: expected a StopReason; got {value!r}."
            f"{choices(str(value), [str(reason) for reason in StopReason])}"
        ) from error


class _StepReport(Protocol):
    @property
    def reward(self) -> float: ...
    @property
    def episode_done(self) -> bool: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def logs(self) -> Logs: ...
    @property
    def stop_reason(self) -> StopReason | None: ...


def make_plain(result: _StepReport) -> None:
    """Make what a step reports Python's own, inside the struct that holds it.

    Raises:
        RequestError: naming the struct and the field that cannot be kept.
    """
    name = type(result).__name__
    stop_reason = stop_reason_of(f"{name}.stop_reason", result.stop_reason)
    if stop_reason is not None and not result.episode_done:
        raise RequestError(
            f"{name}.stop_reason: expected None while the episode goes on; got "
            f"{str(stop_reason)!r} with episode_done=False. Set episode_done=True."
        )
    plain = {
        "reward": plain_reward(f"{name}.reward", result.reward),
        "episode_done": bool(result.episode_done),
        "metrics": plain_metrics(f"{name}.metrics", result.metrics),
        "logs": plain_logs(f"{name}.logs", result.logs),
        "stop_reason": stop_reason,
    }
    for field, value in plain.items():
        msgspec.structs.force_setattr(result, field, value)  # pyright: ignore[reportArgumentType]


class StepResult(msgspec.Struct, frozen=True):
    """What an environment answers to an action.

    Numbers of any kind are taken (numpy's, tensors' scalars) and kept as Python's own.
    """

    reward: float
    """Earned by this action. Finite."""
    episode_done: bool
    """Whether the episode is over; `stop_reason` says whether by itself or by a limit."""
    next_observation: Observation
    """What the policy sees next, or saw last when the episode is over."""
    next_stop_condition: StopCondition
    """What ends the next action."""
    metrics: Metrics = {}
    logs: Logs = {}
    stop_reason: StopReason | None = None
    """Why the episode ended; `completed` where an environment that is done says nothing else.
    None while it goes on."""

    def __post_init__(self) -> None:
        make_plain(self)
        if self.episode_done and self.stop_reason is None:
            msgspec.structs.force_setattr(self, "stop_reason", StopReason.COMPLETED)

    @property
    def terminated(self) -> bool:
        """Whether the task ended."""
        return self.stop_reason is not None and self.stop_reason.terminated

    @property
    def truncated(self) -> bool:
        """Whether a limit cut the episode short."""
        return self.stop_reason is not None and self.stop_reason.truncated


class Transition(msgspec.Struct, frozen=True):
    """One step of an episode."""

    ob: Observation
    """What the policy saw."""
    ac: TokensWithLogprobs
    """What it did."""
    reward: float
    episode_done: bool
    """Whether this step was the last; `Trajectory.stop_reason` says why."""
    metrics: Metrics = {}
    logs: Logs = {}

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(
            self, "reward", plain_reward("Transition.reward", self.reward)
        )
        msgspec.structs.force_setattr(
            self, "metrics", plain_metrics("Transition.metrics", self.metrics)
        )
        msgspec.structs.force_setattr(self, "logs", plain_logs("Transition.logs", self.logs))


class Trajectory(msgspec.Struct, frozen=True):
    """An episode: what one policy did in one environment."""

    transitions: list[Transition]
    final_ob: Observation
    """What came after the last action."""
    stop_reason: StopReason | None = None
    """Why it ended; None where nobody said."""

    def __post_init__(self) -> None:
        stop_reason = stop_reason_of("Trajectory.stop_reason", self.stop_reason)
        msgspec.structs.force_setattr(self, "stop_reason", stop_reason)

    @property
    def terminated(self) -> bool:
        """Whether the task ended."""
        return self.stop_reason is not None and self.stop_reason.terminated

    @property
    def truncated(self) -> bool:
        """Whether a limit cut the episode short."""
        return self.stop_reason is not None and self.stop_reason.truncated


class TrajectoryGroup(msgspec.Struct, frozen=True):
    """The episodes of one group, and what each earned in comparison; `G` is the group's axis."""

    trajectories_G: list[Trajectory]
    final_rewards_G: list[float]
    """Given by `EnvGroupBuilder.compute_group_rewards`, on top of the rewards of the steps."""
    metrics_G: list[Metrics]

    def __post_init__(self) -> None:
        wanted = len(self.trajectories_G)
        for name, values in (
            ("final_rewards_G", self.final_rewards_G),
            ("metrics_G", self.metrics_G),
        ):
            if len(values) != wanted:
                raise ShapeError(
                    f"TrajectoryGroup.{name}: expected {wanted} values, one per trajectory; got "
                    f"{len(values)}. Return one (reward, metrics) pair per trajectory from "
                    "compute_group_rewards."
                )
        where = "TrajectoryGroup.final_rewards_G"
        rewards = [
            plain_reward(f"{where}[{i}]", value) for i, value in enumerate(self.final_rewards_G)
        ]
        metrics = [
            plain_metrics(f"TrajectoryGroup.metrics_G[{i}]", m)
            for i, m in enumerate(self.metrics_G)
        ]
        msgspec.structs.force_setattr(self, "final_rewards_G", rewards)
        msgspec.structs.force_setattr(self, "metrics_G", metrics)

    def get_total_rewards(self) -> list[float]:
        """The return of each episode: the rewards of its steps plus its final reward."""
        return [
            sum(transition.reward for transition in trajectory.transitions) + final_reward
            for trajectory, final_reward in zip(
                self.trajectories_G, self.final_rewards_G, strict=True
            )
        ]


class ActionExtra(TypedDict, total=False):
    """What is known of an action beside its tokens."""

    stop_reason: SamplingStopReason
    """`length` when the action was cut off at its token limit."""


class Env(ABC):
    """A task for one policy, used for one episode and then thrown away.

    Its methods may await anything that runs under anyio, and be cancelled at any await. What they
    raise is a failure of the environment, never a reward.
    """

    runs_in: RunsIn = "loop"
    """Where its methods run: `thread` if they wait without awaiting, `process` if they compute for
    long; then they have an event loop of their own there."""

    rewrites_history: bool = False
    """Whether an observation need not begin with the one before it and the action: such an episode
    becomes several training sequences. It may be set after each step, for the observation that the
    step gave."""

    @abstractmethod
    async def initial_observation(self) -> tuple[Observation, StopCondition]:
        """What the policy sees first, and what ends its first action."""

    @abstractmethod
    async def step(self, action: Action, *, extra: ActionExtra | None = None) -> StepResult:
        """Answer an action. After the end of the episode, raise.

        An environment that does not care for `extra` may leave the parameter out.

        Args:
            action: Sampled token ids, the stop token included.
            extra: What else is known of the action.
        """

    async def on_early_end(self, stop_reason: StopReason) -> None:
        """Hear that the episode is over, though no answer of its own had ended it.

        Called once, after the last step: a limit of the run was met. An environment that others
        wait for, as players of a game do, tells them here. A failed episode is not told of: it
        ends the episodes that are `linked` to it, and `EnvGroupBuilder.cleanup` comes in any case.

        Args:
            stop_reason: Why, such as `max_turns`.
        """
        return


class EnvGroupBuilder(ABC):
    """Makes the environments of one group, usually the same task several times.

    Builders should pickle, so that environments can run in other processes: keep settings in
    them, and make what is heavy or live in `make_envs`.
    """

    linked: bool = False
    """Whether the episodes depend on each other, as those of a game do, so that a failed one
    cannot be played again, or left out, by itself."""

    @abstractmethod
    async def make_envs(self) -> Sequence[Env]:
        """The environments of the group, one for each episode."""

    async def compute_group_rewards(
        self, trajectory_group: list[Trajectory], env_group: Sequence[Env]
    ) -> list[tuple[float, Metrics]]:
        """What each episode earns in comparison with the others: by default, nothing.

        Args:
            trajectory_group: The finished episodes.
            env_group: Their environments, in the same order.
        Returns:
            A final reward and metrics for each episode.
        """
        return [(0.0, {}) for _ in trajectory_group]

    async def cleanup(self) -> None:
        """Give back what `make_envs` took: called once per group, however the group ended."""
        return

    def logging_tags(self) -> list[str]:
        """Names under which the metrics of the group are averaged, such as its dataset's."""
        return []


class RLDataset(ABC):
    """Batches of groups. A batch is asked for by its number, so it must not depend on the past."""

    @abstractmethod
    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        """The groups of batch `index`, where 0 <= index < len(self)."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches."""


@chz.chz
class RLDatasetBuilder:
    """Settings of a dataset, as a recipe's command line gives them."""

    async def __call__(self) -> tuple[RLDataset, RLDataset | None]:
        """Load the training data and, where there is some, held-out data."""
        raise NotImplementedError(
            f"{type(self).__name__}.__call__: expected a coroutine that returns (training dataset, "
            "test dataset or None); got none. Define `async def __call__(self)`."
        )
