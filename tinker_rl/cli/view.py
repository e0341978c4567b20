"""`python -m tinker_rl view`: a run to look at in a browser.

    python -m tinker_rl view RUN
    python -m tinker_rl view RUN --serve
    python -m tinker_rl view RUN OTHER --out both.html
    python -m tinker_rl view RUN --trace trace.json

RUN is the run's folder, or a journal that was put aside in it. Options may also be written as
`out=FILE`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from tinker_rl.errors import ConfigError, TinkerRLError
from tinker_rl.rl.timeline import TIMELINE_FILE
from tinker_rl.viewer.facts import runs_inside
from tinker_rl.viewer.notes import notes_of
from tinker_rl.viewer.page import DEFAULT_MAX_MB, write_page
from tinker_rl.viewer.reader import RunReader

__all__ = ["Options", "parse", "run"]

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended."""
PAGE_FILE = "view.html"
LOOPBACK = "127.0.0.1"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The command line."""

    runs: list[Path]
    out: Path | None = None
    serve: bool = False
    port: int | None = None
    host: str | None = None
    trace: Path | None = None
    max_mb: float = DEFAULT_MAX_MB
    open: bool = False


def run() -> None:
    """Run the command. Leaves with 1 after an error, which is said without a traceback."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        _main(parse(sys.argv[1:]), Console(highlight=False, soft_wrap=True), errors)
    except (TinkerRLError, OSError) as error:
        errors.print("[red]error[/]:", Text(str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print(Text("stopped; nothing was written"))
        sys.exit(INTERRUPTED)


class _Parser(argparse.ArgumentParser):
    """One whose errors are the package's."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"view: {message}. --help lists what there is.")


def parse(arguments: list[str]) -> Options:
    """The options that a command line stands for. Raises ConfigError where it stands for none."""
    parser = _Parser(
        prog="python -m tinker_rl view",
        description="A run to look at in a browser: its curves, its time, its episodes.",
        epilog="Options may also be written as out=FILE.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help=f"where to write the page ({PAGE_FILE} in the run's folder; here, of several runs)",
    )
    parser.add_argument(
        "--serve", action="store_true", help="serve the page on this machine, following the runs"
    )
    parser.add_argument("--port", type=int, metavar="N", help="where to serve it")
    parser.add_argument(
        "--host",
        help=f"interface to serve it on ({LOOPBACK}): others can read all of it there",
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write the timeline for Perfetto instead of the page; with --out, both",
    )
    parser.add_argument(
        "--max-mb",
        type=float,
        default=DEFAULT_MAX_MB,
        metavar="N",
        help="most megabytes of episodes in the file; what is over is left out (%(default)g)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    dashed = [_dashed(argument) for argument in arguments]
    options = Options(**vars(parser.parse_args([a for a in dashed if a is not None])))
    _check(options)
    return options


def _dashed(argument: str) -> str | None:
    """`out=FILE` as `--out=FILE`, `serve=true` as `--serve`; None for `serve=false`."""
    match = re.fullmatch(r"(?s)(out|port|host|trace|max[_-]mb|serve|open)=(.*)", argument)
    if match is None:
        return argument
    name, value = match[1].replace("_", "-"), match[2]
    if name not in ("serve", "open"):
        return f"--{name}={value}"
    if value.lower() not in ("true", "false", "1", "0"):
        raise ConfigError(f"view: {name}: expected true or false; got {value!r}. Write --{name}.")
    return f"--{name}" if value.lower() in ("true", "1") else None


def _check(options: Options) -> None:
    if options.serve and (options.out or options.trace):
        raise ConfigError(
            "view: expected --serve, or a file to write; got both. Leave out one of them."
        )
    for name, value in (("port", options.port), ("host", options.host)):
        if value is not None and not options.serve:
            raise ConfigError(
                f"view: {name}: expected --serve beside it; got a file to write. Add --serve, or "
                f"leave out --{name}."
            )
    if not options.max_mb > 0:
        raise ConfigError(
            f"view: max_mb: expected megabytes above 0; got {options.max_mb}. Leave it out for "
            f"{DEFAULT_MAX_MB:g}."
        )
    if options.port is not None and not 0 <= options.port < 2**16:
        raise ConfigError(
            f"view: port: expected 0 to 65535; got {options.port}. Leave it out to have one chosen."
        )


def _main(options: Options, console: Console, messages: Console) -> None:
    runs, waiting = _readers(options.runs, messages, is_waiting=options.serve)
    try:
        with messages.status("reading") if messages.is_terminal else nullcontext():
            for reader in runs:
                reader.poll()
        if options.serve:
            _serve(options, runs, waiting, console, messages)
            return
        if options.trace is not None:
            _trace(runs, options.trace, console)
            if options.out is None:  # the page would say it
                for reader in runs:
                    about = [note for note in notes_of(reader, ()) if TIMELINE_FILE in note]
                    _say(about, reader, runs, messages)
        if options.trace is None or options.out is not None:
            _write(options, runs, console, messages)
    finally:
        for reader in runs:
            reader.close()


def _readers(
    paths: Sequence[Path], messages: Console, *, is_waiting: bool
) -> tuple[list[RunReader], list[Path]]:
    """Of all that are runs, as `runs/*` may name others too, and where one may begin yet.

    Raises ConfigError where there is neither, and for what is not there and is not waited for. A
    file that is no journal becomes no run, nor does a folder of runs.
    """
    readers: list[RunReader] = []
    others: dict[Path, ConfigError] = {}
    waiting: list[Path] = []
    for path in paths:
        try:
            readers.append(RunReader(path))
        except ConfigError as error:
            place = path.expanduser()
            if not place.exists() and re.fullmatch(r"[A-Za-z][\w-]*=.*", str(path)):
                raise ConfigError(
                    f"view: expected a run's folder or an option; got {path}, which is neither. "
                    "--help lists the options; --serve waits for a folder of that name by its "
                    "whole path."
                ) from None
            if is_waiting and not place.is_file() and not runs_inside(place):
                waiting.append(path)
            elif not place.exists():
                raise
            else:
                others[path] = error
    if not readers and not waiting:
        raise next(iter(others.values()))
    for path in others:
        messages.print(Text(f"warning: {path} is no run's folder or journal; it is left out"))
    if waiting:
        names = ", ".join(map(str, waiting))
        messages.print(Text(f"{names}: no run has begun there; waiting for it (Ctrl-C ends)"))
    return readers, waiting


def _write(
    options: Options, runs: Sequence[RunReader], console: Console, messages: Console
) -> None:
    path = options.out
    if path is None:
        path = runs[0].folder / PAGE_FILE if len(runs) == 1 else Path(PAGE_FILE)
    with _progress(messages) as progress:
        task = progress.add_task("writing episodes", total=None)
        summary = write_page(
            runs,
            path.expanduser(),
            max_mb=options.max_mb,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    megabytes = summary.num_bytes / 1e6
    console.print(Text(f"{summary.path.resolve()} ({megabytes:.1f} MB): open it in a browser"))
    for reader, notes in zip(runs, summary.notes, strict=True):
        _say(notes, reader, runs, messages)
    if options.open:
        webbrowser.open(summary.path.resolve().as_uri())


def _say(
    notes: Sequence[str], about: RunReader, runs: Sequence[RunReader], messages: Console
) -> None:
    """Notes about one of the runs, a line each."""
    name = f"{about.name}: " if len(runs) > 1 else ""
    for note in notes:
        messages.print(Text(f"note: {name}{note}"))


def _progress(messages: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        console=messages,
        transient=True,
        disable=not messages.is_terminal,
    )


def _trace(runs: Sequence[RunReader], path: Path, console: Console) -> None:
    from tinker_rl.viewer.trace import write_trace

    if not any(len(reader.spans) for reader in runs):
        folders = " ".join(shlex.quote(str(reader.folder)) for reader in runs)
        raise ConfigError(
            f"view: trace: expected a run with a timeline.jsonl; got {folders}, which has none. "
            "Runs of earlier versions wrote none; the next start of the run does."
        )
    num_events = write_trace(runs, path.expanduser())
    console.print(Text(f"{path} ({num_events} events): open it in https://ui.perfetto.dev"))


def _serve(
    options: Options,
    runs: list[RunReader],
    waiting: Sequence[Path],
    console: Console,
    messages: Console,
) -> None:
    from tinker_rl.viewer.server import open_socket, serve

    host = LOOPBACK if options.host is None else options.host
    sock = open_socket(host, options.port)
    port = sock.getsockname()[1]
    if host not in (LOOPBACK, "localhost", "::1"):
        messages.print(
            Text(f"warning: all that reach {host} can read these runs, every word of them")
        )
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    console.print(Text(f"{url} shows the run as it goes on; Ctrl-C ends it"))
    if options.open:
        threading.Timer(0.5, webbrowser.open, [url]).start()
    serve(runs, sock, host, waiting)
