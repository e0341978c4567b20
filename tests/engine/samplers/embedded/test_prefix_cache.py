import gc
import weakref

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tinker_rl.engine.samplers.embedded.kv_cache import Keys
from tinker_rl.engine.samplers.embedded.prefix_cache import PrefixCache

VERSIONS = ("", "a")
versions = st.sampled_from(VERSIONS)
# Few distinct tokens, so that sequences share much; long enough to branch in many places.
sequences = st.lists(st.integers(0, 2), min_size=1, max_size=14).map(tuple)


def prefixes(tokens):
    return {tokens[:length] for length in range(1, len(tokens) + 1)}


def keys_of(version, tokens, start=0):
    """Keys as a model gives them: a token's depend on all that come before it."""
    values = [hash((version, tokens[: at + 1])) % 2**31 for at in range(start, len(tokens))]
    layer = torch.tensor(values, dtype=torch.float64)[None, :, None]
    return Keys([layer, layer + 1], [layer + 2, layer + 3])


def joined(pieces):
    """What pieces come to: one tensor a layer."""
    layers = zip(*(piece.keys + piece.values for piece in pieces), strict=True)
    return [torch.cat(layer, dim=1) for layer in layers]


class PrefixCacheMachine(RuleBasedStateMachine):
    """Every prefix that was ever stored, kept beside the cache."""

    def __init__(self):
        super().__init__()
        self.cache = PrefixCache()
        self.stored = {version: set() for version in VERSIONS}
        self.ends = {version: set() for version in VERSIONS}
        self.complete = True
        """Whether nothing was dropped for want of room yet."""

    @rule(version=versions, tokens=sequences, ends=st.booleans())
    def insert(self, version, tokens, ends):
        asked = []

        def cut(start, stop):
            asked.append((start, stop))
            return keys_of(version, tokens[:stop], start)

        before = self.cache.tokens
        end_H = torch.tensor([hash(tokens) % 2**31], dtype=torch.float64) if ends else None
        self.cache.insert(version, np.array(tokens), cut, end_H)
        # What is known is not asked for again.
        assert len(asked) <= 1
        assert self.cache.tokens - before == sum(stop - start for start, stop in asked)
        if self.complete:
            assert self.cache.tokens - before == len(prefixes(tokens) - self.stored[version])
        self.stored[version] |= prefixes(tokens)
        if ends:
            self.ends[version].add(tokens)
        match = self.cache.find(version, np.array(tokens), len(tokens))
        assert match.length >= len(tokens) - 1
        if ends:
            assert match.end_H is not None

    @rule(version=versions, tokens=sequences, data=st.data())
    def find(self, version, tokens, data):
        most = data.draw(st.integers(0, len(tokens)))
        match = self.cache.find(version, np.array(tokens), most)
        known = max(
            (length for length in range(most + 1) if tokens[:length] in self.stored[version]),
            default=0,
        )
        whole = known == len(tokens)
        expected = known - (whole and tokens not in self.ends[version])
        assert match.length == expected if self.complete else match.length <= known
        if match.end_H is not None:
            assert match.end_H.item() == hash(tokens) % 2**31
            assert match.length == len(tokens)
        elif self.complete:
            assert not whole or tokens not in self.ends[version]
        assert sum(piece.length for piece in match.pieces) == match.length
        if match.length:
            whole = keys_of(version, tokens[: match.length])
            for got, layer in zip(joined(match.pieces), whole.keys + whole.values, strict=True):
                assert torch.equal(got, layer)

    @rule(most=st.integers(0, 40))
    def trim(self, most):
        self.complete &= self.cache.tokens <= most
        self.cache.trim(most)
        assert self.cache.tokens <= most

    @rule(version=versions, tokens=sequences)
    def what_was_used_last_goes_last(self, version, tokens):
        self.insert(version, tokens, True)
        path = self.cache._walk(version, np.array(tokens))
        self.trim(sum(len(node.token_T) for node, _ in path))  # nodes are kept whole
        match = self.cache.find(version, np.array(tokens), len(tokens))
        assert match.length == len(tokens)
        assert len(self.cache._recent) == len(path)

    @rule(version=versions)
    def forget(self, version):
        self.cache.forget(version)
        self.stored[version] = set()
        self.ends[version] = set()
        assert self.cache.find(version, np.array([0]), 1).length == 0

    @invariant()
    def tokens_are_counted(self):
        nodes = self.cache._recent
        assert self.cache.tokens == sum(len(node.token_T) for node in nodes)
        assert all(node.keys.length == len(node.token_T) for node in nodes)
        if self.complete:
            assert self.cache.tokens == sum(map(len, self.stored.values()))
        if not self.cache.tokens:
            assert not self.cache._roots

    @invariant()
    def children_go_before_their_parents(self):
        place = {node: at for at, node in enumerate(self.cache._recent)}
        for node, at in place.items():
            assert all(place[child] < at for child in node.children.values())


PrefixCacheMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None
)
TestPrefixCache = PrefixCacheMachine.TestCase


def store(cache, version, *tokens):
    cache.insert(version, np.array(tokens), lambda a, b: keys_of(version, tokens[:b], a))


def test_the_least_recently_used_goes_first():
    cache = PrefixCache()
    store(cache, "", 0, 1, 2)
    store(cache, "", 5, 6, 7)
    cache.find("", np.array([0, 1, 9]), 3)
    cache.trim(3)
    assert cache.find("", np.array([0, 1, 2, 3]), 4).length == 3
    assert cache.find("", np.array([5, 6, 7, 8]), 4).length == 0


def test_equal_matches_stand_at_one_node_and_others_do_not():
    cache = PrefixCache()
    store(cache, "", 0, 1, 2)
    store(cache, "", 5, 6, 7)
    one, same, other = (
        cache.find("", np.array([*start, 9]), 4) for start in ((0, 1, 2), (0, 1, 2), (5, 6, 7))
    )
    assert one.node is same.node
    assert one.node is not other.node
    assert one.length == other.length == 3


def test_what_is_dropped_is_freed_at_once():
    cache = PrefixCache()
    gc.disable()  # a cycle would keep it until a collection
    try:
        for number in range(3):
            store(cache, "a", 0, 1, number, 4)
            store(cache, "", number)
        refs = [weakref.ref(node.keys.keys[0]) for node in cache._recent]
        cache.trim(5)
        assert sum(ref() is not None for ref in refs) == len(cache._recent)
        cache.forget("a")
        cache.forget("")
        assert cache.tokens == 0
        assert [ref() for ref in refs] == [None] * len(refs)
    finally:
        gc.enable()
