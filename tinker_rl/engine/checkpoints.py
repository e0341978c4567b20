"""The store of runs and checkpoints: folders that exist whole or not at all.

    <root>/runs/<run_id>/run.json
    <root>/runs/<run_id>/weights/<name>/...            adapter, optimiser, manifest.json, meta.json
    <root>/runs/<run_id>/sampler_weights/<name>/...    a peft adapter folder, with the same two

`manifest.json` never changes and carries the checksum of each file; `meta.json` holds what may
change (expiry, visibility). A folder is written beside its place, flushed, and renamed.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from tinker_rl.engine.paths import CheckpointPath, Kind, check_name, check_run_id, parse_path
from tinker_rl.errors import CheckpointError
from tinker_rl.types import Checkpoint, LoraConfig

__all__ = ["Manifest", "RunRecord", "Store", "default_root", "write_file_atomically"]

_log = logging.getLogger(__name__)

_MIN_TTL_SECONDS = 1


class RunRecord(msgspec.Struct, kw_only=True, frozen=True):
    """What is known of a training model after its engine is gone."""

    run_id: str
    base_model: str
    lora_config: LoraConfig
    created: datetime
    last_request: datetime
    user_metadata: dict[str, str] | None = None


class _File(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, kw_only=True, frozen=True):
    """What a checkpoint holds."""

    format: int = 1
    run_id: str
    kind: Kind
    base_model: str
    lora_config: LoraConfig
    steps: int
    """Optimiser steps behind the weights."""
    created: datetime
    files: dict[str, _File] = {}


class _Meta(msgspec.Struct, kw_only=True, frozen=True):
    public: bool = False
    expires_at: datetime | None = None
    user_metadata: dict[str, str] | None = None


def default_root() -> Path:
    """`TINKER_RL_HOME`, or `~/.tinker_rl`."""
    return Path(os.environ.get("TINKER_RL_HOME") or Path.home() / ".tinker_rl")


def _now() -> datetime:
    return datetime.now(UTC)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _disk_errors(what: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        todo = "Free some disk space" if full else "Check the folder and its permissions"
        raise CheckpointError(
            f"{what}: expected to write it; got {error.strerror or error}. {todo} and save again: "
            "nothing was left behind, and the model is unchanged."
        ) from error


def _digest(path: Path) -> _File:
    with path.open("rb") as file:
        return _File(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


class Store:
    """Runs and checkpoints under one folder. Its calls block; give them to a worker thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._runs = root / "runs"
        self._swapping = threading.Lock()
        """Held while a checkpoint takes another's place, and while that is looked at."""

    # ----------------------------------------------------------------------------------- runs

    def save_run(self, record: RunRecord) -> None:
        """Create a run, or replace its record."""
        folder = self._runs / record.run_id
        with _disk_errors(f"run {record.run_id}"):
            folder.mkdir(parents=True, exist_ok=True)
            write_file_atomically(folder / "run.json", msgspec.json.encode(record))

    def run(self, run_id: str) -> RunRecord:
        """The record of a run.

        Raises:
            CheckpointError: if there is none of that id, or its record cannot be read.
        """
        file = self._runs / check_run_id(run_id) / "run.json"
        if not file.is_file():
            raise CheckpointError(
                f"training run: expected one of this store ({self.root}); got {run_id!r}. "
                "list_training_runs() shows them."
            )
        try:
            return msgspec.json.decode(file.read_bytes(), type=RunRecord)
        except (OSError, msgspec.MsgspecError) as error:
            raise CheckpointError(
                f"{file}: expected the record of a training run; got {error}. Delete the folder, "
                "or mend the file."
            ) from error

    def runs(self) -> list[RunRecord]:
        """Every run, the last used first; those whose record cannot be read are logged, and left
        out."""
        records: list[RunRecord] = []
        for file in self._runs.glob("*/run.json"):
            try:
                records.append(self.run(file.parent.name))
            except CheckpointError as error:
                _log.warning("%s", error)
        return sorted(records, key=lambda record: record.last_request, reverse=True)

    def delete_run(self, run_id: str) -> None:
        """Forget a run, with its checkpoints."""
        shutil.rmtree(self._runs / check_run_id(run_id), ignore_errors=True)

    # ---------------------------------------------------------------------------- checkpoints

    def write(
        self,
        path: CheckpointPath,
        manifest: Manifest,
        fill: Callable[[Path], None],
        *,
        overwrite: bool = False,
        ttl_seconds: int | None = None,
        user_metadata: Mapping[str, str] | None = None,
    ) -> Checkpoint:
        """Write one checkpoint; `fill` puts its files into the folder it is given.

        Raises:
            CheckpointError: if the name is taken, or the disk refuses; nothing is left behind.
        """
        check_name(path.name)
        expires = _expiry(ttl_seconds)
        final = self._folder(path)
        if final.exists() and not overwrite and not self._has_expired(final):
            raise CheckpointError(
                f"checkpoint {path}: expected a new name; got one that exists. Choose another, or "
                "pass overwrite=True where the call has it."
            )
        temporary = final.with_name(f".tmp-{uuid.uuid4().hex}")
        try:
            with _disk_errors(f"checkpoint {path}"):
                temporary.mkdir(parents=True)
                fill(temporary)
                files: dict[str, _File] = {}
                for file in sorted(p for p in temporary.iterdir() if p.is_file()):
                    _flush(file)
                    files[file.name] = _digest(file)
                full = msgspec.structs.replace(manifest, files=files)
                meta = _Meta(
                    expires_at=expires, user_metadata=dict(user_metadata) if user_metadata else None
                )
                write_file_atomically(temporary / "meta.json", msgspec.json.encode(meta))
                write_file_atomically(temporary / "manifest.json", msgspec.json.encode(full))
                self._swap(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return self._describe(path)

    def _swap(self, temporary: Path, final: Path) -> None:
        retired = final.with_name(f".old-{final.name}")
        with self._swapping:
            if final.exists():
                shutil.rmtree(retired, ignore_errors=True)
                final.rename(retired)  # `_folder` brings it back if we die before the next line
            temporary.rename(final)
            _flush(final.parent)
            shutil.rmtree(retired, ignore_errors=True)

    def _folder(self, path: CheckpointPath) -> Path:
        """Where a checkpoint lies. Ends a swap that was broken off: by the old one if the new one
        is not there, else by the new one."""
        folder = self._runs / path.run_id / path.kind / path.name
        retired = folder.with_name(f".old-{path.name}")
        if retired.exists():
            with self._swapping:
                if folder.exists():
                    shutil.rmtree(retired, ignore_errors=True)
                elif retired.exists():
                    retired.rename(folder)
        return folder

    def open(self, path: CheckpointPath) -> tuple[Path, Manifest]:
        """Folder and manifest of a checkpoint, after checking every byte of it.

        Raises:
            CheckpointError: missing, expired, foreign, truncated or corrupt: each says which.
        """
        folder = self._existing(path)
        manifest = self._manifest(path, folder)
        for name, expected in manifest.files.items():
            file = folder / name
            size = file.stat().st_size if file.is_file() else 0
            if size != expected.size:
                raise CheckpointError(
                    f"checkpoint {path}: truncated: expected {expected.size} bytes in {name}; got "
                    f"{size}. Load another checkpoint; this one cannot be mended."
                )
            if _digest(file) != expected:
                raise CheckpointError(
                    f"checkpoint {path}: corrupt: the checksum of {name} differs from the "
                    "manifest's. Load another checkpoint; this one cannot be mended."
                )
        return folder, manifest

    def _existing(self, path: CheckpointPath) -> Path:
        folder = self._folder(path)
        if not folder.is_dir():
            raise CheckpointError(
                f"checkpoint {path}: expected it in {self._runs}; got nothing there. "
                "list_checkpoints() shows what there is."
            )
        if self._has_expired(folder):
            raise CheckpointError(
                f"checkpoint {path}: expected one that has not expired; got one whose time to live "
                "is over. Load another, and give the next one a longer ttl_seconds, or None."
            )
        return folder

    def _has_expired(self, folder: Path) -> bool:
        expires = self._meta(folder).expires_at
        return expires is not None and expires <= _now()

    def _manifest(self, path: CheckpointPath, folder: Path) -> Manifest:
        try:
            manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
            strange = [name for name in manifest.files if Path(name).name != name]
            if strange:  # such a name would lead out of the folder
                raise msgspec.ValidationError(f"a file called {strange[0]!r}")
            return manifest
        except (OSError, msgspec.MsgspecError) as error:
            raise CheckpointError(
                f"checkpoint {path}: foreign: expected a manifest.json of tinker_rl; got {error}. "
                "Load one that save_state or save_weights_for_sampler wrote."
            ) from error

    def _meta(self, folder: Path) -> _Meta:
        try:
            return msgspec.json.decode((folder / "meta.json").read_bytes(), type=_Meta)
        except (OSError, msgspec.MsgspecError):
            return _Meta()

    def _describe(self, path: CheckpointPath) -> Checkpoint:
        folder = self._existing(path)
        manifest = self._manifest(path, folder)
        meta = self._meta(folder)
        return Checkpoint(
            checkpoint_id=path.checkpoint_id,
            checkpoint_type=path.checkpoint_type,
            time=manifest.created,
            tinker_path=str(path),
            size_bytes=sum(file.size for file in manifest.files.values()),
            public=meta.public,
            user_metadata=meta.user_metadata,
            expires_at=meta.expires_at,
        )

    def checkpoints(self, run_id: str | None = None) -> list[Checkpoint]:
        """The checkpoints of a run, or of all runs, the oldest first. Expired ones are deleted."""
        records = self.runs() if run_id is None else [self.run(run_id)]
        runs = [record.run_id for record in records]
        kinds: tuple[Kind, ...] = ("weights", "sampler_weights")
        found: list[Checkpoint] = []
        for run in runs:
            for kind in kinds:
                for folder in self._listed(self._runs / run / kind):
                    path = CheckpointPath(run, kind, folder.name)
                    try:
                        found.append(self._describe(path))
                    except CheckpointError:
                        if self._has_expired(folder):
                            shutil.rmtree(folder, ignore_errors=True)
        return sorted(found, key=lambda checkpoint: (checkpoint.time, checkpoint.tinker_path))

    @staticmethod
    def _listed(parent: Path) -> list[Path]:
        """Folders of the checkpoints in `parent`, those of a broken-off swap among them."""
        names = {entry.name.removeprefix(".old-") for entry in parent.glob("*")}
        return [parent / name for name in sorted(names) if not name.startswith(".")]

    def delete(self, path: CheckpointPath) -> None:
        """Delete a checkpoint."""
        folder = self._existing(path)
        retired = folder.with_name(f".tmp-{uuid.uuid4().hex}")
        folder.rename(retired)
        shutil.rmtree(retired, ignore_errors=True)

    def set_ttl(self, path: CheckpointPath, ttl_seconds: int | None) -> None:
        """Let it expire that many seconds from now, or never."""
        self._change(path, expires_at=_expiry(ttl_seconds))

    def set_public(self, path: CheckpointPath, public: bool) -> None:
        """Mark it as readable by others; on one's own machine this is a mark only."""
        self._change(path, public=public)

    def _change(self, path: CheckpointPath, **fields: object) -> None:
        folder = self._existing(path)
        meta = msgspec.structs.replace(self._meta(folder), **fields)
        with _disk_errors(f"checkpoint {path}"):
            write_file_atomically(folder / "meta.json", msgspec.json.encode(meta))

    def copy(self, path: CheckpointPath, run_id: str, ttl_seconds: int | None) -> CheckpointPath:
        """Copy a checkpoint, checked, into a run of its own; returns where it lies now."""
        folder, manifest = self.open(path)
        record = self.run(path.run_id)
        now = _now()
        self.save_run(msgspec.structs.replace(record, run_id=run_id, created=now, last_request=now))
        target = CheckpointPath(run_id, path.kind, path.name)

        def fill(temporary: Path) -> None:
            for name in manifest.files:
                shutil.copy2(folder / name, temporary / name)

        try:
            self.write(
                target,
                msgspec.structs.replace(manifest, run_id=run_id),
                fill,
                ttl_seconds=ttl_seconds,
                user_metadata=self._meta(folder).user_metadata,
            )
        except BaseException:
            self.delete_run(run_id)
            raise
        return target

    def find(self, path: str) -> tuple[CheckpointPath, Manifest]:
        """Parse a path and read its manifest, without checking the files."""
        parsed = parse_path(path)
        return parsed, self._manifest(parsed, self._existing(parsed))


def _expiry(ttl_seconds: int | None) -> datetime | None:
    if ttl_seconds is None:
        return None
    if ttl_seconds < _MIN_TTL_SECONDS:
        raise CheckpointError(f"ttl_seconds: expected 1 or more, or None; got {ttl_seconds}.")
    return _now() + timedelta(seconds=ttl_seconds)
