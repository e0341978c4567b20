"""A copy of a builder as another process would get it."""

from __future__ import annotations

import io
import pickle
from typing import Any

from tinker_rl.completers import MessageCompleter, TokenCompleter
from tinker_rl.testing.judge import FakeJudge

__all__ = ["pickled_copy"]


def pickled_copy(builder: Any) -> Any:
    """What comes of pickling it and back.

    Completers of tinker_rl (scripted ones, those of this kit) and fake judges stand for clients,
    which a builder need not pickle: the copy has the same ones.

    Raises:
        Exception: whatever pickle raises for what cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(builder)
    file.seek(0)
    return _Unpickler(file, pickler.kept).load()


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.kept: list[Any] = []

    def persistent_id(self, obj: Any) -> int | None:
        if not _is_stub(obj):
            return None
        self.kept.append(obj)
        return len(self.kept) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, kept: list[Any]) -> None:
        super().__init__(file)
        self._kept = kept

    def persistent_load(self, pid: int) -> Any:
        return self._kept[pid]


def _is_stub(value: Any) -> bool:
    is_ours = type(value).__module__.startswith("tinker_rl.")
    return is_ours and isinstance(value, TokenCompleter | MessageCompleter | FakeJudge)
