"""Actions that are sampled in parts, against the same tokens sampled in one go."""

from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.policies.parts import ActionParts

tokens = st.lists(st.sampled_from("ab\u20ac\n".encode()), min_size=1, max_size=30)
"""Bytes of characters of one byte and of three, some of them cut."""
stops = st.lists(st.text("ab\u20ac\n", min_size=1, max_size=4), max_size=3)


def text(tokens):
    return bytes(tokens).decode(errors="replace")


def sampled(stream, limit, stop):
    """What a sampler gives that would draw `stream`: (tokens, stop reason)."""
    for count in range(1, min(limit, len(stream)) + 1):
        taken = stream[:count]
        if any(taken[-1] == s if isinstance(s, int) else s in text(taken) for s in stop):
            return taken, "stop"
    return stream[:limit], "length" if limit <= len(stream) else "interrupted"


@given(
    stream=tokens,
    limit=st.integers(1, 30),
    stop=stops | st.lists(st.sampled_from(b"ab"), max_size=2),
    cuts=st.lists(st.integers(0, 6), max_size=12),
)
def test_parts_end_where_the_whole_would(stream, limit, stop, cuts):
    whole, reason = sampled(stream, limit, stop)
    parts = ActionParts(limit, stop, text)
    for version, cut in enumerate([*cuts, len(stream)]):
        part, part_reason = sampled(stream[len(parts.tokens) :], parts.room, stop)
        if cut < len(part):
            part, part_reason = part[:cut], "interrupted"
        parts.add(part, [float(token) for token in part], part_reason, version)
        if parts.is_complete:
            break
    action = parts.action()
    assert action.tokens == whole
    assert action.logprobs == [float(token) for token in whole]
    assert action.stop_reason == reason
    assert action.token_versions == sorted(action.token_versions)
    assert (action.version_spans is None) == (len(set(action.token_versions)) <= 1)


@given(
    lengths=st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 3)), max_size=6),
    last=st.integers(0, 3),
)
def test_every_token_has_the_version_that_sampled_it(lengths, last):
    parts = ActionParts(100, [], text)
    for count, version in lengths:
        parts.add([97] * count, [-1.0] * count, "interrupted", version)
    assert parts.num_parts == sum(count > 0 for count, _ in lengths)
    assert parts.room == 100 - sum(count for count, _ in lengths)
    assert not parts.is_complete
    parts.add([98], [-2.0], "stop", last)
    versions = [version for count, version in [*lengths, (1, last)] for _ in range(count)]
    assert parts.action().policy_version == versions[0]
    if None not in versions:
        assert parts.action().token_versions == versions


def test_what_was_sampled_after_a_straddling_stop_string_is_dropped():
    parts = ActionParts(9, ["\n\n"], text)
    parts.add(list(b"ab\n"), [-1.0, -2.0, -3.0], "interrupted", 0)
    assert not parts.is_complete
    parts.add(list(b"\nabab"), [-4.0] * 5, "length", 1)
    action = parts.action()
    assert (text(action.tokens), action.stop_reason) == ("ab\n\n", "stop")
    assert action.version_spans == ((0, 3), (1, 1))
    assert action.logprobs == [-1.0, -2.0, -3.0, -4.0]


def test_the_limit_ends_a_part_that_is_interrupted_there():
    parts = ActionParts(2, [], text)
    parts.add([97, 98], [-1.0, -1.0], "interrupted", 0)
    assert parts.action().stop_reason == "length"
