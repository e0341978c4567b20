"""The grammar of `tinker://` paths and of the names in them. Pure."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec

from tinker_rl.errors import CheckpointError
from tinker_rl.types import CheckpointType

__all__ = ["CheckpointPath", "Kind", "check_name", "check_run_id", "parse_path"]

Kind: TypeAlias = Literal["weights", "sampler_weights"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,127}")
_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,191}")
_TYPES: dict[Kind, CheckpointType] = {"weights": "training", "sampler_weights": "sampler"}


class CheckpointPath(msgspec.Struct, frozen=True):
    """`tinker://<run_id>/<kind>/<name>`, taken apart."""

    run_id: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"tinker://{self.run_id}/{self.kind}/{self.name}"

    @property
    def checkpoint_id(self) -> str:
        """`<kind>/<name>`, as the REST interface calls a checkpoint."""
        return f"{self.kind}/{self.name}"

    @property
    def checkpoint_type(self) -> CheckpointType:
        """`training` or `sampler`."""
        return _TYPES[self.kind]


def check_name(name: str) -> str:
    """`name`, if a checkpoint may be called so.

    Raises:
        CheckpointError: otherwise.
    """
    if not _NAME.fullmatch(name):
        raise CheckpointError(
            f"checkpoint name: expected 1 to 128 letters, digits, '_', '-', '.', '=' or '+', not "
            f"beginning with '.', '-', '=' or '+'; got {name!r}. Names are no paths: leave out '/'."
        )
    return name


def check_run_id(run_id: str) -> str:
    """`run_id`, if a training run may be called so.

    Raises:
        CheckpointError: otherwise.
    """
    if not _RUN.fullmatch(run_id):
        raise CheckpointError(
            f"run id: expected 1 to 192 letters, digits, ':', '_', '-' or '.', not beginning with "
            f"'.', ':' or '-'; got {run_id!r}. list_training_runs() shows them."
        )
    return run_id


def parse_path(path: str) -> CheckpointPath:
    """Take a `tinker://` path apart.

    Raises:
        CheckpointError: if it is not one.
    """
    scheme, _, rest = path.partition("://")
    parts = rest.split("/")
    if scheme != "tinker" or len(parts) != 3 or parts[1] not in _TYPES:
        raise CheckpointError(
            "checkpoint path: expected tinker://<run_id>/weights/<name> or "
            f"tinker://<run_id>/sampler_weights/<name>; got {path!r}. Use the path that save_state "
            "or save_weights_for_sampler returned."
        )
    run_id, kind, name = parts
    return CheckpointPath(
        check_run_id(run_id),
        "weights" if kind == "weights" else "sampler_weights",
        check_name(name),
    )
