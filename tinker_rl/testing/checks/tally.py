"""What was played in a check, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tinker_rl.envs import StepResult, StopReason
from tinker_rl.testing.checks.records import PlayedEpisode, PlayedGroup
from tinker_rl.testing.checks.report import EnvCheckReport

__all__ = ["Tally"]

_MANY_SLEEPS = 3
_SHARE_OF_SLEEPS = 0.1
"""Calls that sleep, at least, to be worth a note: a busy machine holds up a call now and then."""

_NONSENSE = ("adversarial_text", "adversarial_tokens")
_UNREAD = (StopReason.PARSE_ERROR, StopReason.MAX_TOKENS, StopReason.CONTEXT_OVERFLOW)
_MUCH_NONSENSE = 4
_SHARE_OF_NONSENSE = 0.5
"""Episodes of nonsense that earn the most, at least, to be worth a note: of a small vocabulary some
are right by chance."""


class Tally:
    """Counts groups as they are played.

    Args:
        named: Actions that the author named, as texts, by their tokens.
        knows_valid: Whether it is known what good actions are: else those that are called so are
            guesses, and count as any others.
    """

    def __init__(
        self, named: Mapping[tuple[int, ...], str] | None = None, *, knows_valid: bool = True
    ) -> None:
        self._named = dict(named or {})
        self._knows_valid = knows_valid
        self._num_cases = self._num_episodes = self._num_turns = self._num_ended = 0
        self._returns: set[float] = set()
        self._valid_returns: set[float] = set()
        self._heard: list[tuple[str, float]] = []
        """What an episode is made of, and its return, where every action could be read."""
        self._step_rewards: set[float] = set()
        self._num_unread = 0
        self._num_injected = 0
        self._has_group_rewards = False
        self._num_calls: Counter[str] = Counter()
        self._num_played: Counter[tuple[int, ...]] = Counter()
        """How often each action was played that is a good one."""
        self._valid: Counter[tuple[tuple[int, ...], ...]] = Counter()
        """Episodes of good actions alone."""
        self.longest = 0
        """Turns of the longest episode."""
        self.runs_in_loop = True
        """Whether the environments run in the event loop, not in threads or processes."""
        self._sleeps: dict[str, list[float]] = {}

    def add(self, group: PlayedGroup) -> None:
        """Count what a group did."""
        self._num_cases += 1
        self._num_episodes += len(group.episodes)
        self._num_turns += sum(len(episode.turns) for episode in group.episodes)
        self._num_ended += sum(episode.end == "ended" for episode in group.episodes)
        for episode in group.episodes:
            self._num_injected += episode.broken is not None and episode.broken.is_injected
            self._add_calls(episode)
            self._add_actions(episode)
            if episode.broken is None and episode.turns:
                self._returns.add(group.earned(episode))
                if self._knows_valid and all(t.action.kind == "valid" for t in episode.turns):
                    self._valid_returns.add(group.earned(episode))
                self._hear(group, episode)

    def report(
        self,
        checked: dict[str, int],
        skipped: dict[str, str],
        notes: Sequence[str],
        *,
        is_cut: bool = False,
    ) -> EnvCheckReport:
        """What was found well.

        Args:
            checked: Properties, with the number of cases of each.
            skipped: Those that were left out, and why.
            notes: What else is to be said.
            is_cut: Whether it was cut short; then what was earned says little.
        """
        return EnvCheckReport(
            checked=checked,
            skipped=skipped,
            num_cases=self._num_cases,
            num_episodes=self._num_episodes,
            num_turns=self._num_turns,
            num_ended=self._num_ended,
            returns=_range(self._returns),
            valid_returns=_range(self._valid_returns),
            valid_episodes=(self._valid.total(), len(self._valid)),
            valid_actions={name: self._num_played[tokens] for tokens, name in self._named.items()},
            longest=self.longest,
            notes=(*notes, *self._own_notes(is_cut)),
        )

    def _hear(self, group: PlayedGroup, episode: PlayedEpisode) -> None:
        if group.rewarded is not None and any(group.rewarded.final_rewards_G):
            self._has_group_rewards = True
        if any(_is_unread(turn.result) for turn in episode.turns):
            self._num_unread += 1
            return
        self._step_rewards.update(episode.rewards)
        kinds = {turn.action.kind for turn in episode.turns}
        if getattr(group.builder, "linked", False):
            kinds = {"others' too"}  # who says nothing may win against one who says worse
        for made_of, of_kinds in (("empty", {"empty"}), ("nonsense", set(_NONSENSE))):
            if kinds <= of_kinds:
                self._heard.append((made_of, group.earned(episode)))
                return
        self._heard.append(("other", group.earned(episode)))

    def _add_actions(self, episode: PlayedEpisode) -> None:
        played = [turn.action for turn in episode.turns]
        self.longest = max(self.longest, len(played))
        good = [action.tokens for action in played if action.kind == "valid"]
        self._num_played.update(good)
        if self._knows_valid and played and len(good) == len(played):
            self._valid[tuple(good)] += 1

    def _add_calls(self, episode: PlayedEpisode) -> None:
        env: Any = getattr(episode.env, "message_env", episode.env)
        self.runs_in_loop = self.runs_in_loop and getattr(env, "runs_in", "loop") == "loop"
        for method, seconds in episode.calls:
            name = f"{type(env).__name__}.{method}"
            self._num_calls[name] += 1
            if seconds:
                self._sleeps.setdefault(name, []).append(seconds)

    def _own_notes(self, is_cut: bool) -> list[str]:
        notes = [
            f"{name} held up the event loop for {max(seconds):.1f} s in {len(seconds)} of "
            f"{self._num_calls[name]} calls, without computing: meanwhile no other episode goes "
            'on. Await what it waits for, or set runs_in = "thread" on its class'
            for name, seconds in self._sleeps.items()
            if len(seconds) >= max(_MANY_SLEEPS, _SHARE_OF_SLEEPS * self._num_calls[name])
        ]
        if self._num_injected:
            notes.append(
                f"{self._num_injected} of {self._num_episodes} episodes ended on a fault that a "
                "completer raised on purpose: nothing after it was looked at"
            )
        if self._num_cases > 1 and self._heard and not is_cut:
            notes += self._notes_of_rewards()
        return notes

    def _notes_of_rewards(self) -> list[str]:
        returns = {earned for _, earned in self._heard}
        but = ", but for messages that could not be read" if self._num_unread else ""
        hint = (
            "name a whole episode that earns more with valid_episodes=..."
            if self._named and self.longest > 1
            else "name better actions with valid_actions=..."
        )
        if len(returns) == 1:
            return [f"every episode earned {min(returns):g}{but}: {hint}"]
        if len(self._step_rewards) == 1 and not self._has_group_rewards:
            (reward,) = self._step_rewards
            return [f"every step earned {reward:g}{but}: {hint}"]
        best = max(returns)
        notes: list[str] = [] if self._has_group_rewards else self._notes_of_nothing(best, hint)
        if not self._knows_valid and not notes and best <= 0:
            notes.append(
                f"no episode earned more than {best:g}, whatever was drawn: good actions may not "
                f"be among it, and what comes of them is not checked: {hint}"
            )
        return notes

    def _notes_of_nothing(self, best: float, hint: str) -> list[str]:
        """Of what says nothing, and earns the most.

        Not of rewards of the group: those that go by ranks, by novelty or by the majority pay it at
        times, as they should.
        """
        advice = "see what is graded"
        if best not in self._valid_returns:  # else better actions than the author's may not exist
            advice += f"; or, if that is right, {hint}"
        notes: list[str] = []
        if ("empty", best) in self._heard:
            notes.append(
                f"an episode of empty answers earned {best:g}, and no other earned more: {advice}"
            )
        nonsense = [earned for made_of, earned in self._heard if made_of == "nonsense"]
        num_best = nonsense.count(best)
        if num_best >= max(_MUCH_NONSENSE, _SHARE_OF_NONSENSE * len(nonsense)):
            notes.append(
                f"{num_best} of {len(nonsense)} episodes of nonsense earned {best:g}, and no other "
                f"earned more: {advice}"
            )
        return notes


def _is_unread(result: StepResult) -> bool:
    """Whether a message was cut off, or its format wrong: that has a price of its own."""
    return result.metrics.get("parse_error", 0) > 0 or result.stop_reason in _UNREAD


def _range(returns: set[float]) -> tuple[float, float] | None:
    return (min(returns), max(returns)) if returns else None
