"""Methods of environments called in worker processes, to which the environment travels."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import anyio
import anyio.to_process
import msgspec

from tinker_rl.envs.answers import answer_of
from tinker_rl.envs.containment import contained
from tinker_rl.envs.error_reports import ErrorReport, ReportedError, report_of
from tinker_rl.envs.randomness import rng_or_none, seeded_rng
from tinker_rl.errors import EnvError, RequestError

__all__ = ["call_in_process"]


class _Call(msgspec.Struct):
    """What goes to the worker; without `method` and what follows, what comes back."""

    env: Any
    rng: random.Random | None
    method: str = ""
    args: Sequence[Any] = ()
    options: Mapping[str, Any] = {}
    result: Any = None


async def call_in_process(
    env: Any, method: str, args: Sequence[Any], options: Mapping[str, Any]
) -> Any:
    """Call a coroutine method of an environment in a worker process.

    The environment goes there with its random numbers, and what changed of both comes back.
    Cancelled, the process is killed, and the environment is as it was before the call.

    Raises:
        RequestError: if the environment cannot be pickled.
        ReportedError: what the method raised.
        EnvError: if the process died.
    """
    rng = rng_or_none()
    call = _Call(env, rng, method, args, options)
    request = _pickled(type(env).__name__, call)
    try:
        answer = await anyio.to_process.run_sync(
            _work, request, cancellable=True, limiter=anyio.CapacityLimiter(math.inf)
        )
    except anyio.BrokenWorkerProcess as error:
        raise EnvError(
            f"{type(env).__name__}.{method}: expected its worker process to answer; it died. Look "
            "for a crash in native code, a lack of memory, or a script without "
            "`if __name__ == '__main__':`."
        ) from error
    done: _Call | ErrorReport = pickle.loads(answer)
    if isinstance(done, ErrorReport):
        raise ReportedError(done)
    vars(env).clear()
    vars(env).update(vars(done.env))
    if rng is not None and done.rng is not None:
        rng.setstate(done.rng.getstate())
    return done.result


def _pickled(name: str, call: _Call) -> bytes:
    try:
        return pickle.dumps(call)
    except Exception as error:
        raise RequestError(
            f"{name}.runs_in: expected an environment that can be pickled, for 'process'; got "
            f"{type(error).__name__}: {error} Keep clients, locks and open files out of it, or set "
            "runs_in = 'thread'."
        ) from error


def _work(request: bytes) -> bytes:
    """Runs in the worker."""
    try:
        call: _Call = pickle.loads(request)
        with seeded_rng(call.rng) if call.rng is not None else nullcontext():
            result = anyio.run(contained, lambda _: _method(call), backend="asyncio")
        return _pickled(type(call.env).__name__, _Call(call.env, call.rng, result=result))
    except (Exception, SystemExit) as error:
        return pickle.dumps(report_of(error))


async def _method(call: _Call) -> Any:
    return await answer_of(call.env, call.method, *call.args, **call.options)
