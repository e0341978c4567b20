"""Keys and values that later prompts may begin with: a tree of tokens for each version. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from tinker_rl.engine.prefix_tree import IntArray
from tinker_rl.engine.samplers.embedded.kv_cache import Keys

__all__ = ["Match", "PrefixCache"]


@dataclass(eq=False)
class _Node:
    """Tokens that follow those of the parent up to some place in it."""

    parent: _Node | None
    place: tuple[int, int]
    """How many of the parent's tokens come before, and the first token: the key among siblings."""
    token_T: IntArray
    keys: Keys
    children: dict[tuple[int, int], _Node] = field(default_factory=dict[tuple[int, int], "_Node"])
    ends: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    """Last hidden state [H] after so many of the tokens, where a prompt ended there."""


@dataclass(frozen=True, eq=False)
class Match:
    """What is known of the beginning of a prompt."""

    length: int = 0
    """Tokens that need not be read."""
    pieces: Sequence[Keys] = ()
    """Their keys and values, in order."""
    end_H: Tensor | None = None
    """Last hidden state, if that is the whole prompt."""
    node: object = None
    """Stands for what was matched: equal matches have the same."""


class PrefixCache:
    """Prompts that were read and answers that were sampled, each token of a prefix stored once.

    A sequence shares the nodes that it has in common with others, to the token, and adds one for
    the rest. The least recently used go first; a parent is never used less recently than its
    children, so what goes first is always a leaf.
    """

    def __init__(self) -> None:
        self._roots: dict[str, _Node] = {}
        self._recent: OrderedDict[_Node, str] = OrderedDict()  # its version
        self.tokens = 0
        """How many are stored."""

    def find(self, version: str, token_T: IntArray, most: int) -> Match:
        """The longest beginning of a prompt that is stored, of at most `most` tokens.

        Unless its last hidden state is known, the last token of the prompt is left out: it has to
        be read for the first answer.
        """
        path = self._walk(version, token_T[:most])
        self._touch(path)
        length = sum(shared for _, shared in path)
        if not path:
            return Match()
        node, shared = path[-1]
        end_H = node.ends.get(shared) if length == len(token_T) else None
        if length == len(token_T) and end_H is None:
            length, path = length - 1, [*path[:-1], (node, shared - 1)]
        pieces = [node.keys.part(0, shared) for node, shared in path if shared]
        return Match(length, pieces, end_H, node)

    def insert(
        self,
        version: str,
        token_T: IntArray,
        cut: Callable[[int, int], Keys],
        end_H: Tensor | None = None,
    ) -> None:
        """Store a sequence.

        Args:
            cut: Gives the keys and values of the tokens from one place to another, to be kept; it
                is asked for those that are not stored yet.
            end_H: Last hidden state after the whole sequence.
        """
        path = self._walk(version, token_T)
        known = sum(shared for _, shared in path)
        if known < len(token_T):
            if path:
                parent, shared = path[-1]
            else:
                parent, shared = self._roots.setdefault(version, _root()), 0
            place = (shared, int(token_T[known]))
            node = _Node(parent, place, token_T[known:].copy(), cut(known, len(token_T)))
            parent.children[place] = node
            self._recent[node] = version
            self.tokens += len(node.token_T)
            path.append((node, len(node.token_T)))
        if end_H is not None:
            node, shared = path[-1]
            node.ends[shared] = end_H
        self._touch(path)

    def trim(self, most: int) -> None:
        """Drop what was not used for the longest time, until at most `most` tokens are stored."""
        while self.tokens > most:
            node, version = self._recent.popitem(last=False)
            self._drop(node, version)

    def forget(self, version: str) -> None:
        """Drop everything of a version."""
        for node in [node for node, of in self._recent.items() if of == version]:
            del self._recent[node]  # in order: children before their parents
            self._drop(node, version)

    def _drop(self, node: _Node, version: str) -> None:
        assert not node.children
        assert node.parent is not None
        del node.parent.children[node.place]
        self.tokens -= len(node.token_T)
        if node.parent is self._roots[version] and not node.parent.children:
            del self._roots[version]
        node.parent = None

    def _walk(self, version: str, token_T: IntArray) -> list[tuple[_Node, int]]:
        """The nodes that a sequence shares, and how many of each one's tokens: none shares 0."""
        node, shared, depth = self._roots.get(version), 0, 0
        path: list[tuple[_Node, int]] = []
        while node is not None and depth < len(token_T):
            node = node.children.get((shared, int(token_T[depth])))
            if node is not None:
                shared = _common(node.token_T, token_T[depth:])
                depth += shared
                path.append((node, shared))
        return path

    def _touch(self, path: Sequence[tuple[_Node, int]]) -> None:
        for node, _ in reversed(path):
            self._recent.move_to_end(node)


def _root() -> _Node:
    return _Node(None, (0, -1), np.zeros(0, np.int64), Keys([], []))


def _common(one_T: IntArray, other_T: IntArray) -> int:
    """How many tokens two sequences begin with alike."""
    length = min(len(one_T), len(other_T))
    differ_T = one_T[:length] != other_T[:length]
    first = int(differ_T.argmax())
    return first if differ_T[first] else length
