"""Hypothesis strategies of messages, tool calls, seeds and whole episodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from tinker_rl.renderers import Message, TextPart, ThinkingPart, ToolCall, UnparsedToolCall
from tinker_rl.testing.extra import st
from tinker_rl.testing.strategies.actions import ACTION_KINDS, ValidActions, actions, texts
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.hard_texts import ADVERSARIAL_TEXTS
from tinker_rl.testing.strategies.scripts import EpisodeScript, GroupScript
from tinker_rl.testing.strategies.token_space import TokenSource
from tinker_rl.testing.strategies.tools import Tools

__all__ = ["episodes", "groups", "messages", "seeds", "spoiled_groups", "tool_calls"]

_MALFORMED_CALLS = ("{", '{"name": 1}', "f(x", '{"name": "f", "arguments": "{"}', "")


def seeds() -> st.SearchStrategy[int]:
    """Seeds of a run; they shrink to 0."""
    return st.integers(0, 2**31 - 1)


def _contents() -> st.SearchStrategy[str]:
    """Contents of messages: any text, and some that was made to break things."""
    return texts() | st.sampled_from(ADVERSARIAL_TEXTS)


def tool_calls(
    names: Sequence[str] | None = None, *, malformed: bool = False
) -> st.SearchStrategy[Any]:
    """Calls of tools, with arguments of every JSON type.

    Args:
        names: Names of the tools; None: any identifier, so that most name no tool at all.
        malformed: Whether to draw `UnparsedToolCall`, what a model meant as a call, too.
    """
    drawn = st.text("abcdefghij_xyz", min_size=1, max_size=8)
    name = st.sampled_from(list(names)) | drawn if names else drawn
    values = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | texts(8)
    nested = st.recursive(
        values,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts(4), inner, max_size=2),
        max_leaves=4,
    )
    arguments = st.dictionaries(texts(6), nested, max_size=3).map(json.dumps)
    calls = st.builds(
        lambda name, arguments: ToolCall(
            function=ToolCall.FunctionBody(name=name, arguments=arguments)
        ),
        name,
        arguments,
    )
    if not malformed:
        return calls
    unparsed = st.builds(
        lambda raw: UnparsedToolCall(raw_text=raw, error="invalid_json"),
        st.sampled_from(_MALFORMED_CALLS),
    )
    return calls | unparsed


def messages(
    *,
    max_size: int = 6,
    system: bool = True,
    thinking: bool = True,
    tools: Sequence[str] | None = None,
) -> st.SearchStrategy[list[Message]]:
    """Conversations that the assistant can answer: it and the user take turns, the user first.

    Args:
        max_size: Most messages, 2 or more; the shortest is a single one of the user's.
        system: Whether some begin with a message of the system.
        thinking: Whether some answers hold reasoning.
        tools: Names of tools that some answers call and that some messages answer; None: none.
    """

    @st.composite
    def conversation(draw: Any) -> list[Message]:
        said = draw(st.lists(_exchange(thinking, tools), max_size=max_size // 2))
        listed = [message for exchange in said for message in exchange][: max_size - 1]
        if system and draw(st.booleans()):
            listed = [Message(role="system", content=draw(_contents())), *listed[: max_size - 2]]
        if not listed or listed[-1]["role"] in ("system", "assistant"):
            listed.append(Message(role="user", content=draw(_contents())))
        return listed

    return conversation()


def _exchange(thinking: bool, tools: Sequence[str] | None) -> st.SearchStrategy[list[Message]]:
    """A message of the user's, the answer, and what the tools say to it."""

    @st.composite
    def exchange(draw: Any) -> list[Message]:
        text = draw(_contents())
        asked = Message(role="user", content=draw(_contents()))
        answer = Message(role="assistant", content=text)
        if thinking and draw(st.booleans()):
            part = ThinkingPart(type="thinking", thinking=draw(texts(8)))
            answer["content"] = [part, TextPart(type="text", text=text)]
        if tools is None or not draw(st.booleans()):
            return [asked, answer]
        answer["tool_calls"] = calls = draw(st.lists(tool_calls(tools), min_size=1, max_size=2))
        names = [call.function.name for call in calls]
        told = [Message(role="tool", content=draw(_contents()), name=name) for name in names]
        return [asked, answer, *told]

    return exchange()


def episodes(
    source: TokenSource,
    *,
    valid: ValidActions | None = None,
    kinds: Sequence[str] | None = None,
    max_turns: int = 3,
    max_tokens: int = 600,
    tools: Tools = (),
) -> st.SearchStrategy[EpisodeScript]:
    """Whole episodes: a seed and what the policy does, turn by turn.

    Args:
        source: The renderer or tokenizer of the environment, or the size of its vocabulary.
        valid: As in `actions`, like `kinds`, `max_tokens` and `tools`.
        kinds: Kinds of actions.
        max_turns: Most actions that are drawn; an episode that goes on repeats them.
        max_tokens: Most tokens of a huge action.
        tools: The tools that can be called.
    """
    script = _script(_Drawn(source, valid, kinds, max_turns, max_tokens, tools))
    return st.builds(EpisodeScript, seeds(), script)


def groups(
    source: TokenSource,
    size: int,
    *,
    valid: ValidActions | None = None,
    kinds: Sequence[str] | None = None,
    max_turns: int = 3,
    max_tokens: int = 600,
    seed: int | None = None,
    tools: Tools = (),
) -> st.SearchStrategy[GroupScript]:
    """The episodes of a group of `size`, under one seed: that one, or any; see `episodes`."""
    script = _script(_Drawn(source, valid, kinds, max_turns, max_tokens, tools))
    drawn = st.just(0) | seeds() if seed is None else st.just(seed)
    return st.builds(GroupScript, drawn, _members(script, size))


def spoiled_groups(
    source: TokenSource, size: int, *, valid: ValidActions, max_turns: int, tools: Tools = ()
) -> st.SearchStrategy[GroupScript]:
    """Groups under seed 0 whose episodes are good for some turns, and then anything."""
    script = _spoiled(_Drawn(source, valid, None, max_turns, 600, tools))
    return st.builds(GroupScript, st.just(0), _members(script, size))


def _members(
    script: st.SearchStrategy[tuple[DrawnAction, ...]], size: int
) -> st.SearchStrategy[tuple[tuple[DrawnAction, ...], ...]]:
    """What each member does: others than the rest, or the same at other turns, as for members who
    disturb each other when they do the same."""

    def shifted(actions: tuple[DrawnAction, ...]) -> tuple[tuple[DrawnAction, ...], ...]:
        turns = [member % len(actions) for member in range(size)]
        return tuple((*actions[turn:], *actions[:turn]) for turn in turns)

    each = st.tuples(*[script] * size)
    return each if size == 1 else each | script.map(shifted)


class _Drawn(NamedTuple):
    """What episodes are drawn from."""

    source: TokenSource
    valid: ValidActions | None
    kinds: Sequence[str] | None
    max_turns: int
    max_tokens: int
    tools: Tools

    def lists(
        self, kinds: Sequence[str] | None, min_size: int, max_size: int
    ) -> st.SearchStrategy[tuple[DrawnAction, ...]]:
        """So many actions of these kinds."""
        act = actions(
            self.source,
            valid=self.valid,
            kinds=kinds,
            max_tokens=self.max_tokens,
            tools=self.tools,
        )
        return st.lists(act, min_size=min_size, max_size=max_size).map(tuple)


def _script(drawn: _Drawn) -> st.SearchStrategy[tuple[DrawnAction, ...]]:
    """The actions of one episode: half of them are good throughout, to get to its end."""
    if drawn.kinds is not None and "valid" not in drawn.kinds:
        return drawn.lists(drawn.kinds, 1, drawn.max_turns)
    return drawn.lists(["valid"], 1, drawn.max_turns) | _spoiled(drawn)


def _spoiled(drawn: _Drawn) -> st.SearchStrategy[tuple[DrawnAction, ...]]:
    """Good ones, or none, then one that is not good, and then any."""
    bad = [kind for kind in drawn.kinds or ACTION_KINDS if kind != "valid"]
    turns = drawn.max_turns
    good = drawn.lists(["valid"], 0, turns - 1)
    wrong = drawn.lists(bad or ["valid"], 1, 1)
    rest = drawn.lists(drawn.kinds, 0, turns - 1)
    return st.builds(lambda good, wrong, rest: (*good, *wrong, *rest)[:turns], good, wrong, rest)
