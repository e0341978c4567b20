"""The process of vLLM: it builds the engine, and does what it is told over a socket.

    python -m tinker_rl.engine.samplers.vllm.worker SOCKET_FD

It runs in a process group of its own, under `guard`. Whatever breaks here ends it: its owner starts
another one, and asks again.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc

from tinker_rl.engine.samplers.base import SampleJob
from tinker_rl.engine.samplers.vllm.protocol import (
    Answered,
    Cancel,
    Command,
    Engine,
    Interrupt,
    Load,
    Loaded,
    Messages,
    Open,
    Opened,
    Ping,
    Pong,
    Refused,
    Report,
    Sample,
    Unload,
    frame,
)
from tinker_rl.engine.samplers.vllm.translation import sample_response, sampling_params

_EXTENSION = "tinker_rl.engine.samplers.vllm.extension.WorkerExtension"

_MAX_CPU_LORAS = 4096
"""vLLM drops adapters beyond so many, and reads them again: there is nothing for it to choose,
since those that nobody uses are unloaded by name."""

_SHUTDOWN_SECONDS = 1.0


def build_engine(engine: Engine) -> Any:
    """vLLM's async engine. Blocks until its process has loaded the model.

    Sampled logprobs are `processed_logprobs`: those after temperature, top-k and top-p.
    """
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    optional: dict[str, Any] = {
        "gpu_memory_utilization": engine.memory_share,
        "kv_cache_memory_bytes": engine.kv_cache_bytes,
        "max_num_batched_tokens": engine.max_step_tokens,
        "block_size": engine.block_size,
    }
    if engine.max_lora_rank:
        optional |= {
            "enable_lora": True,
            "max_loras": engine.max_loras,
            "max_lora_rank": engine.max_lora_rank,
            "max_cpu_loras": _MAX_CPU_LORAS,
        }
    arguments = AsyncEngineArgs(
        model=engine.model,
        dtype=engine.dtype,  # pyright: ignore[reportArgumentType]
        max_model_len=engine.max_model_len,
        max_num_seqs=engine.max_running,
        tensor_parallel_size=engine.tensor_parallel_size,
        enforce_eager=engine.eager,
        enable_prefix_caching=True,
        scheduling_policy="priority",  # probes first, then in the order they came
        logprobs_mode="processed_logprobs",
        max_logprobs=-1,
        generation_config="vllm",  # the model's own must not change what was asked for
        worker_extension_cls=_EXTENSION,
        disable_log_stats=True,
        enable_log_requests=False,
        **{name: value for name, value in optional.items() if value is not None},
    )
    return AsyncLLM.from_engine_args(arguments)


@dataclass(eq=False)
class _Job:
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    request_id: str = ""
    """Of vLLM; empty until it has taken the job."""
    is_interrupted: bool = False


class Worker:
    """One vLLM engine and the jobs it has."""

    def __init__(self, engine: Any, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        self._engine = engine
        self._outbox = outbox
        self._tasks = tasks
        self._jobs: dict[int, _Job] = {}
        self._num_done = 0
        self._core_answered = 0
        self._core_asked = False

    def do(self, command: Command) -> None:
        """Begin what is asked for."""
        match command:
            case Sample():
                entry = self._jobs[command.job.job_id] = _Job()
                self._tasks.start_soon(self._sample, command.job, command.adapter, entry)
            case Cancel():
                entry = self._jobs.get(command.job_id)
                if entry is not None:
                    entry.scope.cancel()
            case Interrupt():
                entry = self._jobs.get(command.job_id)
                if entry is not None:
                    entry.is_interrupted = True
                    if entry.request_id:
                        self._tasks.start_soon(self._abort, entry)
            case Load():
                self._tasks.start_soon(self._load, command)
            case Unload():
                self._tasks.start_soon(self._engine.remove_lora, command.number)
            case Ping():
                self._outbox.put(self._pong(command.number))
                if not self._core_asked:
                    self._core_asked = True
                    self._tasks.start_soon(self._ask_core, command.number)
            case Open():
                raise AssertionError("the engine is open")

    async def _sample(self, job: SampleJob, adapter: Load | None, entry: _Job) -> None:
        report: Report | None = None
        with entry.scope:
            try:
                output = await self._output(job, adapter, entry)
                report = Answered(job.job_id, sample_response(job, output))
            except Exception as error:
                if self._engine.errored:
                    raise  # the engine is dead: so is this process
                cause = error.__cause__ or error
                report = Refused(job.job_id, f"{type(cause).__name__}: {cause}")
        del self._jobs[job.job_id]
        self._num_done += 1
        if report is not None:
            self._outbox.put(report)

    async def _output(self, job: SampleJob, adapter: Load | None, entry: _Job) -> Any:
        """vLLM's one output of a job, complete or interrupted. Cancelled, vLLM drops the job.

        This is its `generate` for requests whose last output alone counts. That hides the id by
        which a request is ended, samples and all.
        """
        from vllm.inputs.engine import tokens_input

        outputs = await self._engine.add_request(
            str(job.job_id),
            tokens_input(list(job.prompt)),
            sampling_params(job),
            lora_request=None if adapter is None else _request(adapter),
            priority=-1 if job.is_probe else 0,
        )
        entry.request_id = outputs.request_id
        try:
            if entry.is_interrupted:
                await self._abort(entry)
            return await outputs.get()
        except BaseException:
            # Where all of this ends, there is no engine any more to be told.
            if entry.scope.cancel_called and not self._engine.errored:
                with anyio.CancelScope(shield=True):
                    await self._abort(entry)
            raise

    async def _abort(self, entry: _Job) -> None:
        """End a request of vLLM; whoever waits for its output gets what there is."""
        await self._engine.abort(entry.request_id, internal=True)

    async def _load(self, load: Load) -> None:
        try:
            await self._engine.add_lora(_request(load))
            hashes = await self._engine.collective_rpc(
                "tinker_adapter_hash", args=(load.number, load.folder)
            )
            if len(set(hashes)) != 1:
                raise ValueError(f"expected one adapter in all workers; got {hashes}")
            self._outbox.put(Loaded(load.number, content_hash=hashes[0]))
        except Exception as error:
            if self._engine.errored:
                raise
            self._outbox.put(Loaded(load.number, error=f"{type(error).__name__}: {error}"))

    def _pong(self, number: int) -> Pong:
        states = self._engine.output_processor.request_states.values()
        tokens = sum(len(s.detokenizer.output_token_ids) for s in states if s.detokenizer)
        # An answer takes its tokens out of the sum, and counts more than any answer is long.
        progress = (self._num_done << 32) + tokens
        return Pong(number, self._core_answered, len(self._jobs), progress)

    async def _ask_core(self, number: int) -> None:
        """A round trip through the loop of the process that computes."""
        await self._engine.is_sleeping()
        self._core_answered = number
        self._core_asked = False


def _request(load: Load) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(load.name, load.number, load.folder)


class Outbox:
    """Reports on their way out. It is unbounded: what is in it was computed already."""

    def __init__(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[Report](math.inf)

    def put(self, report: Report) -> None:
        """Queue a report; never waits."""
        self._send.send_nowait(report)

    async def deliver(self, stream: anyio.abc.ByteSendStream) -> None:
        """Send what is put in, for ever; reports that wait together go together."""
        async with self._receive:
            async for report in self._receive:
                more = self._receive.statistics().current_buffer_used
                waiting = (self._receive.receive_nowait() for _ in range(more))
                await stream.send(b"".join(map(frame, itertools.chain((report,), waiting))))


async def serve(fd: int) -> None:
    """Build the engine that the first message describes, and do what the others say."""
    async with await anyio.abc.UNIXSocketStream.from_socket(fd) as stream:
        messages = Messages(stream)
        opening = await messages.receive(Open)
        engine = build_engine(opening.engine)  # nothing else to do here until it is there
        outbox = Outbox()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outbox.deliver, stream)
            worker = Worker(engine, outbox, tasks)
            outbox.put(Opened([os.getpid(), *_children()]))
            try:
                while True:
                    worker.do(await messages.receive(Command))  # pyright: ignore[reportArgumentType]
            finally:
                engine.shutdown(timeout=_SHUTDOWN_SECONDS)


def _children() -> list[int]:
    """Processes of vLLM. Others, such as compilers, come and go: their end means nothing."""
    import psutil

    family = psutil.Process().children(recursive=True)
    return [child.pid for child in family if child.name().startswith("VLLM")]


def main() -> None:
    """Serve until the owner goes away, or something breaks; then end at once.

    The guard kills what is left of the process group.
    """
    try:
        anyio.run(serve, int(sys.argv[1]), backend="asyncio")
    except BaseException as error:
        gone = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)
        owner_is_gone = isinstance(error, BaseExceptionGroup) and error.subgroup(gone) is not None
        if not (owner_is_gone or isinstance(error, gone)):
            import traceback

            traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
