"""Data sets, from wherever they can be had: a path, a folder of data sets, the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

from tinker_rl.errors import DataError

__all__ = ["DATA_VARIABLE", "HubSource", "LoadedRows", "Split", "load_rows", "read_jsonl"]

Row = TypeVar("Row")
Split: TypeAlias = Literal["train", "test"]

DATA_VARIABLE = "TINKER_RL_DATA"
"""Environment variable that names a folder of data sets, each a folder of its own."""
MAX_QUOTED_CHARS = 80


class HubSource(msgspec.Struct, frozen=True):
    """Where a data set lies on the Hugging Face hub."""

    repository: str
    """`owner/name`."""
    config: str | None = None


class LoadedRows(msgspec.Struct, Generic[Row], frozen=True):
    """The rows of one split, and where they came from."""

    rows: list[Row]
    source: str
    """For people: `data_path: ...`, `TINKER_RL_DATA: ...` or `Hugging Face hub: ...`."""


def load_rows(
    name: str,
    row_type: type[Row],
    split: Split,
    *,
    data_path: str | os.PathLike[str] | None = None,
    hub: HubSource | None = None,
) -> LoadedRows[Row]:
    """The rows of a data set, from the first source that has it.

    In this order: `data_path`, a file, or a folder that holds `<split>.jsonl`; the folder
    `<name>/` in the folder named by TINKER_RL_DATA; the Hugging Face hub, where `datasets` is
    installed. Reads files and may download: call it from a worker thread.

    Args:
        name: Name of the data set, and of its folder.
        row_type: A msgspec struct; keys that it does not name are ignored.
        split: `train` or `test`. A `data_path` that is a file is what it is, whatever the split.
        data_path: What the user asked for: if it is missing, nothing else is tried.
        hub: Where the hub has it; None: nowhere.
    Raises:
        DataError: if no source has the data, or the data is malformed; it names all sources, or
            the file and the line.
    """
    if data_path is not None:
        path = _file_at(Path(data_path).expanduser(), split)
        if path is None:
            raise _missing(name, split, [f"data_path={str(data_path)!r} (not there)"], hub)
        return LoadedRows(read_jsonl(path, row_type), f"data_path: {path}")
    tried = ["data_path (not given)"]
    folder = os.environ.get(DATA_VARIABLE)
    if folder:
        path = _file_at(Path(folder).expanduser() / name, split)
        if path is not None:
            return LoadedRows(read_jsonl(path, row_type), f"{DATA_VARIABLE}: {path}")
        tried.append(f"{DATA_VARIABLE}={folder!r} (holds no {name}/{split}.jsonl)")
    else:
        tried.append(f"{DATA_VARIABLE} (not set)")
    if hub is None:
        raise _missing(name, split, tried, hub)
    try:
        found: Iterable[Mapping[str, Any]] = _from_hub(hub, split)
    except Exception as error:  # whatever the hub's client raises, the data cannot be had there
        first_line = (str(error).strip().splitlines() or [""])[0]
        tried.append(f"the Hugging Face hub ({type(error).__name__}: {first_line})")
        raise _missing(name, split, tried, hub) from error
    source = f"Hugging Face hub: {hub.repository}, split {split}"
    rows = [
        _convert(row, row_type, f"{source}, row {number}") for number, row in enumerate(found, 1)
    ]
    if not rows:
        raise DataError(f"{source}: expected at least one row; got none. Pass data_path.")
    return LoadedRows(rows, source)


def read_jsonl(path: str | os.PathLike[str], row_type: type[Row]) -> list[Row]:
    """The rows of a JSON Lines file. Blank lines are passed over.

    Args:
        path: A file in UTF-8, one JSON object a line.
        row_type: What each line holds: a msgspec struct.
    Raises:
        DataError: if the file is missing, unreadable or empty, or a line is malformed; it names
            the file, the line, what was expected and what came.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: expected a file of JSON Lines; got {error.strerror or error}. Check the path."
        ) from error
    decoder = msgspec.json.Decoder(row_type)
    rows: list[Row] = []
    # Split at line feeds only: JSON text may hold the other line separators of Unicode.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            rows.append(_decode(decoder, line, f"{path}, line {number}"))
    if not rows:
        raise DataError(
            f"{path}: expected at least one line of JSON; got an empty file. Download it again."
        )
    return rows


def _decode(decoder: msgspec.json.Decoder[Row], line: bytes, where: str) -> Row:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: expected text in UTF-8; got the byte 0x{line[error.start]:02x} at position "
            f"{error.start + 1} of the line. Convert the file to UTF-8."
        ) from error
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise _malformed_row(where, decoder.type, text, error) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f"{where}: expected one JSON object; got {_quoted(text)} ({error}). "
            "Mend or remove the line."
        ) from error


def _convert(row: Mapping[str, Any], row_type: type[Row], where: str) -> Row:
    try:
        return msgspec.convert(dict(row), row_type)
    except msgspec.ValidationError as error:
        raise _malformed_row(where, row_type, repr(dict(row)), error) from error


def _malformed_row(where: str, row_type: Any, text: str, error: Exception) -> DataError:
    fields = ", ".join(
        f"{field.encode_name} ({getattr(field.type, '__name__', field.type)})"
        for field in msgspec.structs.fields(row_type)
    )
    return DataError(
        f"{where}: expected an object with {fields}; got {_quoted(text)}: {error}. "
        "Mend or remove the row."
    )


def _file_at(path: Path, split: Split) -> Path | None:
    """The file of a split at `path`, which may be that file or a folder of splits."""
    if path.is_dir():
        path = path / f"{split}.jsonl"
    return path if path.is_file() else None


def _from_hub(hub: HubSource, split: Split) -> Iterable[Mapping[str, Any]]:
    try:
        from datasets import load_dataset  # pyright: ignore  # an extra that need not be there
    except ImportError as error:
        raise ImportError(
            "the package `datasets` is not installed: `pip install datasets`"
        ) from error
    return load_dataset(hub.repository, name=hub.config, split=split)


def _missing(name: str, split: Split, tried: list[str], hub: HubSource | None) -> DataError:
    at_hub = f"{hub.repository!r} on the Hugging Face hub" if hub else "no place on the hub"
    return DataError(
        f"dataset {name!r}: expected its {split} split in data_path (a file, or a folder with "
        f"{split}.jsonl), in the folder {name}/ of {DATA_VARIABLE}, or as {at_hub}; tried "
        f"{'; '.join(tried)}. Pass data_path=FOLDER, set {DATA_VARIABLE}, or install `datasets` "
        "and go online."
    )


def _quoted(text: str) -> str:
    return repr(text if len(text) <= MAX_QUOTED_CHARS else text[:MAX_QUOTED_CHARS] + "...")
