"""Records as bytes, exact and compact.

A record is msgpack of its structs' fields, by name, so that a field added to any of them is stored
too; what is long is packed (see `packing`).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tinker_rl.rl.journal.packing import Packer, Unpacker
from tinker_rl.rl.journal.records import (
    CommitRecord,
    EvaluationRecord,
    FailureRecord,
    GroupRecord,
    Record,
    StartRecord,
    TrainedRecord,
)

__all__ = ["GroupHead", "Head", "TrainedHead", "decode", "decode_head", "encode"]


def encode(record: Record) -> bytes:
    """A record as bytes. Chunks of observations are joined; all else survives as it is.

    Raises:
        TypeError: if the record holds what msgpack has no form for.
    """
    return msgspec.msgpack.encode(Packer().pack(record))


def decode(data: bytes) -> Record:
    """The record that `encode` made the bytes of; fields that this version lacks are left out.

    Raises:
        ValueError: if the bytes describe no record.
    """
    try:
        tree = msgspec.msgpack.decode(data, ext_hook=Unpacker().unpack)
        return msgspec.convert(tree, Record)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise ValueError(f"expected a record; got what cannot be read as one ({error})") from error


class _OutcomeHead(msgspec.Struct, frozen=True):
    """The small part of an outcome."""

    type: str
    num_sampled_tokens: int = 0
    failures: tuple[msgspec.Raw, ...] = ()


class _RecordHead(msgspec.Struct, frozen=True):
    """What sort a record is, and the small part of what is large."""

    type: str
    step: int = -1
    group: int = -1
    policy_version: int = -1
    outcome: _OutcomeHead | None = None


class GroupHead(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a group without reading its tokens."""

    group: int
    policy_version: int
    kind: str
    """`rolled_out`, `dropped`, or `none`: a number without a group."""
    num_sampled_tokens: int
    num_failures: int
    """Attempts at its episodes that failed."""


class TrainedHead(msgspec.Struct, frozen=True, kw_only=True):
    """That it is known what the learner said of the tokens of a step."""

    step: int


Head: TypeAlias = (
    GroupHead | FailureRecord | CommitRecord | StartRecord | EvaluationRecord | TrainedHead
)
"""A record, or the small part of one."""

_head_decoder = msgspec.msgpack.Decoder(_RecordHead)


def decode_head(data: bytes) -> Head:
    """A record, but of a group, or of what the learner said, its head only, which is quick.

    Raises:
        ValueError: if the bytes describe no record.
    """
    try:
        head = _head_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"expected a record; got what cannot be read as one ({error})") from error
    if head.type == "trained":
        return TrainedHead(step=head.step)
    if head.type != "group":
        record = decode(data)
        assert not isinstance(record, GroupRecord | TrainedRecord)
        return record
    outcome = head.outcome or _OutcomeHead("none")
    return GroupHead(
        group=head.group,
        policy_version=head.policy_version,
        kind=outcome.type,
        num_sampled_tokens=outcome.num_sampled_tokens,
        num_failures=len(outcome.failures),
    )
