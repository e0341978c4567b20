"""One life of a process of vLLM: started, told what to do, watched, and ended."""

from __future__ import annotations

import logging
import math
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import psutil
from anyio.abc import Process, SocketStream

from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.engine.samplers.vllm.folders import short_folder
from tinker_rl.engine.samplers.vllm.protocol import (
    Command,
    Engine,
    Messages,
    Open,
    Opened,
    Ping,
    Pong,
    Report,
    frame,
)
from tinker_rl.engine.samplers.vllm.pulse import PULSE_SECONDS, Pulse, Vitals

__all__ = ["ProcessFailure", "VllmProcess"]

_log = logging.getLogger(__name__)

_GUARD = Path(__file__).with_name("guard.py")
_LOG_TAIL_BYTES = 6000
_GONE = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, OSError)


class ProcessFailure(Exception):
    """A process of vLLM that did not start, died or is stuck; the message says which."""


class VllmProcess:
    """Call `start`, then `attend`; `end` in any case."""

    def __init__(self, config: VllmSamplerConfig, owned: Sequence[Path] = ()) -> None:
        """
        Args:
            owned: Folders that are removed when this program is killed.
        """
        self._config = config
        self._owned = owned
        self._guard: Process | None = None
        self._life = -1
        """Written to, the guard kills the process; closed, it clears up too."""
        self._stream: SocketStream | None = None
        self._messages: Messages | None = None
        self._send, self._outbox = anyio.create_memory_object_stream[Command](math.inf)
        self._log_file = Path()
        self._sockets: Path | None = None
        """Where vLLM's own sockets lie, which it leaves behind."""
        self._pids: list[int] = []
        self._pong = Pong(0, 0, 0, 0)

    @property
    def pids(self) -> list[int]:
        """The process that speaks with us, and those that compute; empty until they are there."""
        return list(self._pids)

    async def start(self, engine: Engine) -> None:
        """Start it, and wait until it answers.

        Raises:
            ProcessFailure: if it does not.
        """
        try:
            await self._spawn()
        except OSError as error:
            raise ProcessFailure(f"it could not be started ({error})") from error
        assert self._stream is not None
        self._messages = Messages(self._stream)
        seconds = self._config.start_seconds
        try:
            with anyio.fail_after(seconds):
                await self._stream.send(frame(Open(engine)))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._look_at_start)
                    self._pids = (await self._messages.receive(Opened)).pids
                    tasks.cancel_scope.cancel()
        except TimeoutError:
            raise self._failure(
                f"it was not ready within {seconds:.0f} s (start_seconds)"
            ) from None
        except Exception as error:
            raise self._failure_of(error, "it ended while it started") from None

    async def _look_at_start(self) -> None:
        assert self._guard is not None
        pulse = Pulse(math.inf, math.inf)
        while True:
            await anyio.sleep(PULSE_SECONDS)
            pids = await anyio.to_thread.run_sync(_family, self._guard.pid)
            vitals = await anyio.to_thread.run_sync(_vitals, pids)
            reason = pulse.look(
                Vitals(stopped=vitals.stopped), answered=True, progress=0, has_work=False
            )
            if reason is not None:
                raise self._failure(reason)

    async def _spawn(self) -> None:
        self._sockets = short_folder()
        ours, theirs = socket.socketpair()
        self._stream = await anyio.abc.UNIXSocketStream.from_socket(ours)
        life_read, self._life = os.pipe()
        handle, name = tempfile.mkstemp(prefix="tinker_rl-vllm-", suffix=".log")
        self._log_file = Path(name)
        worker = [sys.executable, "-m", "tinker_rl.engine.samplers.vllm.worker"]
        owned = os.pathsep.join(map(str, [self._log_file, self._sockets, *self._owned]))
        try:
            self._guard = await anyio.open_process(
                [sys.executable, "-IS", str(_GUARD), str(life_read), *worker, str(theirs.fileno())],
                stdin=-3,  # subprocess.DEVNULL
                stdout=handle,
                stderr=handle,
                pass_fds=(life_read, theirs.fileno()),
                start_new_session=True,
                env={
                    **_environment(self._sockets),
                    "TINKER_RL_PASS_FDS": str(theirs.fileno()),
                    "TINKER_RL_OWNED": owned,
                },
            )
        finally:
            theirs.close()
            os.close(life_read)
            os.close(handle)

    # ----------------------------------------------------------------------------------- living

    def send(self, command: Command) -> None:
        """Tell it to do something; never waits, and is lost when it dies."""
        with suppress(anyio.BrokenResourceError):
            self._send.send_nowait(command)

    async def attend(
        self, on_report: Callable[[Report], None], has_work: Callable[[], bool]
    ) -> NoReturn:
        """Hand over what it reports, until it fails.

        Raises:
            ProcessFailure: when it does.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._deliver)
                tasks.start_soon(self._watch, has_work)
                await self._receive(on_report)
        except Exception as error:
            raise self._failure_of(error, "its process has died") from None
        raise AssertionError("unreachable")

    async def _deliver(self) -> None:
        assert self._stream is not None
        async for command in self._outbox:
            more = self._outbox.statistics().current_buffer_used
            batch = [command, *(self._outbox.receive_nowait() for _ in range(more))]
            await self._stream.send(b"".join(map(frame, batch)))

    async def _receive(self, on_report: Callable[[Report], None]) -> NoReturn:
        assert self._messages is not None
        while True:
            report: Any = await self._messages.receive(Report)  # pyright: ignore[reportArgumentType]
            if isinstance(report, Pong):
                self._pong = report
            else:
                on_report(report)

    async def _watch(self, has_work: Callable[[], bool]) -> None:
        pulse = Pulse(self._config.stall_seconds, self._config.step_seconds)
        number = 0
        while True:
            number += 1
            before = self._pong.core
            self.send(Ping(number))
            await anyio.sleep(PULSE_SECONDS)
            reason = pulse.look(
                await anyio.to_thread.run_sync(_vitals, self._pids),
                answered=self._pong.number == number and self._pong.core > before,
                progress=self._pong.progress,
                has_work=has_work(),
            )
            if reason is not None:
                raise self._failure(reason)

    # ----------------------------------------------------------------------------------- ending

    async def end(self) -> None:
        """See to it that nothing of it is left: by itself in `close_seconds`, else by force."""
        self._send.close()
        self._outbox.close()
        with anyio.CancelScope(shield=True):
            if self._guard is not None:
                # One that is still starting takes no notice.
                patience = self._config.close_seconds if self._pids else 0
                with anyio.move_on_after(patience), suppress(*_GONE):
                    assert self._stream is not None
                    os.write(self._life, b"n")  # the guard notes what it may leave behind
                    await self._stream.send_eof()  # it ends when it sees this
                    while True:
                        await self._stream.receive()
                with suppress(OSError):
                    os.write(self._life, b"e")
            if self._life >= 0:
                os.close(self._life)
                self._life = -1
            if self._guard is not None:
                await self._guard.wait()
                self._guard = None
            if self._stream is not None:
                await anyio.aclose_forcefully(self._stream)
            self._log_file.unlink(missing_ok=True)
            if self._sockets is not None:
                shutil.rmtree(self._sockets, ignore_errors=True)

    def kill(self) -> None:
        """Kill it at once; `attend` then fails."""
        with suppress(OSError):
            os.write(self._life, b"k")

    def _failure_of(self, error: Exception, gone: str) -> Exception:
        """What is meant by an error of the tasks: `gone` when the other end of the socket is."""
        leaves = list(_leaves(error))
        for leaf in leaves:
            if isinstance(leaf, ProcessFailure):
                return leaf
        return self._failure(gone) if all(isinstance(e, _GONE) for e in leaves) else error

    def _failure(self, reason: str) -> ProcessFailure:
        tail = ""
        with suppress(OSError):
            tail = self._log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        self.kill()
        return ProcessFailure(f"{reason}. The end of its log:\n{tail.strip()}" if tail else reason)


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _environment(sockets: Path) -> dict[str, str]:
    """Ours, with what vLLM takes from there.

    Its second model runner scores prompts without regard to adapters; `patches` mends the first.
    """
    ours = {"VLLM_NO_USAGE_STATS": "1", "VLLM_USE_V2_MODEL_RUNNER": "0"}
    return {**os.environ, **ours, "VLLM_RPC_BASE_PATH": str(sockets)}


def _family(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _vitals(pids: Sequence[int]) -> Vitals:
    dead = stopped = False
    cpu = 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                status, times = process.status(), process.cpu_times()
        except psutil.NoSuchProcess:
            dead = True
            continue
        dead |= status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        stopped |= status == psutil.STATUS_STOPPED
        # What its compilers used is its own work: it waits for them, and answers nobody meanwhile.
        cpu += sum(times[:4])
    return Vitals(dead=dead, stopped=stopped, cpu_seconds=cpu)
