"""Which cases a check plays, and in which order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import msgspec

from tinker_rl.testing.checks.case import Setup
from tinker_rl.testing.checks.checker import Checker
from tinker_rl.testing.checks.probing import Probe
from tinker_rl.testing.checks.search import some_values
from tinker_rl.testing.extra import st
from tinker_rl.testing.strategies.actions import ValidActions, hard_actions, named_action
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.episodes import groups, spoiled_groups
from tinker_rl.testing.strategies.look_alikes import look_alike_actions, look_alike_episodes
from tinker_rl.testing.strategies.mutations import broken_late, misplaced
from tinker_rl.testing.strategies.scripts import GroupScript
from tinker_rl.testing.strategies.token_space import Action, TokenSpace
from tinker_rl.testing.strategies.tool_actions import hard_calls
from tinker_rl.testing.strategies.tools import Tools, called, known_tools
from tinker_rl.testing.strategies.valid_plan import ValidPlan

__all__ = ["Given", "play_cases"]

_FEWEST_TURNS, _MOST_TURNS = 3, 6
"""Actions of an episode that is drawn; one that goes on begins again with the first."""
_LONGEST_NAME = 60
_MOST_DRAWN = 40
"""Good actions that are drawn, where a strategy says what they are."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What the author says a good policy does."""

    actions: tuple[DrawnAction, ...]
    """Those that were named, or some that a strategy draws; each once."""
    is_drawn: bool
    """Whether a strategy draws them."""
    episodes: tuple[tuple[DrawnAction, ...], ...]
    """Whole episodes."""
    drawn: ValidActions | None
    """What more of them are drawn from; None: nothing was said."""
    tools: Tools
    """What was said of tools."""
    hard_calls: tuple[DrawnAction, ...]
    """Calls of these tools, and of those in good actions, that are known to break things."""
    names: dict[tuple[int, ...], str]
    """The actions, as texts, by their tokens."""

    @property
    def whole_episodes(self) -> list[tuple[DrawnAction, ...]]:
        """The episodes, and each action by itself."""
        return [*self.episodes, *((action,) for action in self.actions)]

    @classmethod
    def of(
        cls,
        space: TokenSpace,
        valid_actions: ValidActions | None,
        valid_episodes: Sequence[Sequence[Action]],
        tools: Tools,
    ) -> Given:
        """What the options of `check_env` say."""
        is_drawn = isinstance(valid_actions, st.SearchStrategy)
        if isinstance(valid_actions, st.SearchStrategy):
            said = some_values(valid_actions, _MOST_DRAWN)
        else:
            said = list(valid_actions or itertools.chain(*valid_episodes))
        actions = [named_action(space, action) for action in said]
        named = [] if is_drawn else list(zip(actions, said, strict=True))
        names = {action.tokens: _name(space, text) for action, text in named}
        known = known_tools(space, tools, [action.tokens for action in actions])
        return cls(
            actions=tuple(dict.fromkeys(actions)),
            is_drawn=is_drawn,
            episodes=tuple(
                tuple(named_action(space, action) for action in episode)
                for episode in valid_episodes
            ),
            drawn=valid_actions if is_drawn else said or None,
            tools=tools,
            hard_calls=tuple(hard_calls(space, known)),
            names=names,
        )


def play_cases(check: Checker, setup: Setup, seen: Probe, given: Given, max_examples: int) -> None:
    """Play what is known to break things, what a good policy does, and what is drawn.

    Args:
        check: Plays cases, and raises on the first that breaks a property.
        setup: What is checked.
        seen: What is known of it.
        given: What its author says.
        max_examples: Cases to draw, and of each other sort to play at most.
    """
    __tracebackhide__ = True
    texts = hard_actions(setup.space)
    most = max_examples * setup.size
    check.play_episodes(_for_all(given.episodes, setup.size), compare=True)
    check.play_episodes([(action,) for action in texts[:most]], compare=False)
    good = given.actions or tuple(named_action(setup.space, text) for text in seen.answers)
    alike = look_alike_actions(setup.space, good)
    check.play_episodes([(action,) for action in alike[:most]], compare=False)
    check.play_calls(check.rng.sample(given.hard_calls, len(given.hard_calls)), max_examples)
    share = max(1, max_examples // 2)
    if given.actions and not given.is_drawn:
        check.play_named(_plan(check, setup, seen, given), share, max_examples)
    if given.episodes:
        wrong = misplaced(given.episodes, given.actions, check.rng)
        check.play_episodes(wrong[: share * setup.size], compare=True)
        late = broken_late(given.episodes, (*texts, *given.hard_calls), check.rng)
        check.play_episodes(late[:most], compare=False)
        alike = look_alike_episodes(setup.space, given.episodes)
        check.play_episodes(alike[:most], compare=False)
    is_planned = bool(given.actions) and not given.is_drawn
    num_drawn = max(1, max_examples - share) if is_planned else max_examples
    check.search(_scripts(check, setup, seen, given), num_drawn)
    if given.is_drawn:  # after the search, which finds smaller cases
        check.play_named(_plan(check, setup, seen, given), share, share)


def _plan(check: Checker, setup: Setup, seen: Probe, given: Given) -> ValidPlan:
    turns = setup.claims.max_turns or seen.max_turns or setup.settings.limits.max_turns
    return ValidPlan(given.actions, turns, check.rng)


def _for_all(
    episodes: Sequence[tuple[DrawnAction, ...]], size: int
) -> list[tuple[DrawnAction, ...]]:
    """Episodes for whole groups: each with others, and each by all members at once."""
    if size == 1 or not episodes:
        return list(episodes)
    mixed = [*episodes, *episodes[: -len(episodes) % size]]
    return [*mixed, *(episode for episode in episodes for _ in range(size))]


def _scripts(
    check: Checker, setup: Setup, seen: Probe, given: Given
) -> st.SearchStrategy[tuple[GroupScript, bool]]:
    """Scripts of seed 0, and whether each is to have a seed of its own instead."""
    turns = min(_MOST_TURNS, max(_FEWEST_TURNS, check.longest))
    space, size, tools = setup.space, setup.size, given.tools
    if given.drawn is not None and not given.is_drawn:
        spoiled = spoiled_groups(space, size, valid=given.drawn, max_turns=turns, tools=tools)
        return st.tuples(spoiled, st.just(True))
    scripts = groups(space, size, valid=given.drawn, seed=0, max_turns=turns, tools=tools)
    own = st.tuples(scripts, st.just(True))
    if given.drawn is not None or not seen.answers:
        return own
    # The answer was seen under seed 0; another seed may be another problem.
    answered = groups(space, size, valid=seen.answers, seed=0, max_turns=turns, tools=tools)
    return own | st.tuples(answered, st.booleans())


def _name(space: TokenSpace, action: Action) -> str:
    tokens = space.encode_action(action)
    calls = [f"{name}({json.dumps(arguments)})" for name, arguments in called(space, [tokens])]
    text = repr(action) if isinstance(action, str) else space.decode(tokens)
    text = " ".join(calls) or text
    half = _LONGEST_NAME // 2
    return text if len(text) <= _LONGEST_NAME else f"{text[:half]}...{text[-half:]}"
