"""Every `_async` method, awaited as it is and awaited again, on both event loops."""

import inspect

import anyio
import pytest

from tinker_rl import (
    AdamParams,
    ModelInput,
    RestClient,
    SamplingClient,
    SamplingParams,
    ServiceClient,
    TrainingClient,
)

PROMPT = ModelInput.from_ints([1, 2, 3])
GREEDY = SamplingParams(max_tokens=2, temperature=0.0)


@pytest.fixture
def arguments(request, service, training, sampling, make_data):
    """What each method is called with. The store's names are new for every loop."""
    loop = request.getfixturevalue("backend")
    training.forward_backward(make_data(), "cross_entropy")
    state = training.save_state(f"for-{loop}", overwrite=True).result().path
    rest = service.create_rest_client()
    doomed = [rest.copy_weights(state).result() for _ in range(2)]
    run_id = doomed[0].split("/")[2]
    data = make_data()
    return {
        service: {
            "get_server_capabilities": (),
            "create_lora_training_client": ("tiny", 2),
            "create_training_client_from_state": (state,),
            "create_training_client_from_state_with_optimizer": (state,),
            "create_sampling_client": (None, "tiny"),
        },
        training: {
            "forward": (data, "cross_entropy"),
            "forward_backward": (data, "cross_entropy"),
            "forward_backward_custom": (data, lambda data, lp: (sum(x.sum() for x in lp), {})),
            "optim_step": (AdamParams(),),
            "save_state": (f"twin-{loop}",),
            "load_state": (state,),
            "load_state_with_optimizer": (state,),
            "save_weights_for_sampler": (f"twin-{loop}",),
            "save_weights_and_get_sampling_client": (),
            "create_sampling_client": (state,),
            "get_info": (),
            "result": (),
        },
        sampling: {
            "sample": (PROMPT, 2, GREEDY),
            "compute_logprobs": (PROMPT,),
            "get_base_model": (),
            "result": (),
        },
        rest: {
            "list_training_runs": (),
            "get_training_run": (run_id,),
            "get_training_run_by_tinker_path": (state,),
            "list_checkpoints": (run_id,),
            "list_user_checkpoints": (),
            "set_checkpoint_ttl_from_tinker_path": (state, 3600),
            "publish_checkpoint_from_tinker_path": (state,),
            "unpublish_checkpoint_from_tinker_path": (state,),
            "copy_weights": (state,),
            "delete_checkpoint": (run_id, doomed[0].split("/", 3)[3]),
            "delete_checkpoint_from_tinker_path": (doomed[1],),
        },
    }


def test_an_async_method_may_be_awaited_once_and_again(backend, arguments):
    async def main():
        for client, methods in arguments.items():
            for name, given in methods.items():
                first = await getattr(client, f"{name}_async")(*given)
                if first is None or isinstance(first, str):
                    continue  # nothing to await
                second = await first
                third = await second
                assert second is third, name  # a result gives itself
                if not hasattr(first, "future"):
                    assert first is second, name

    anyio.run(main, backend=backend)


def test_no_async_method_was_forgotten(backend, arguments):
    for client, methods in arguments.items():
        own = {name for name, _ in inspect.getmembers(type(client), inspect.iscoroutinefunction)}
        assert {f"{name}_async" for name in methods} == own
    assert {type(client) for client in arguments} == {
        ServiceClient,
        TrainingClient,
        SamplingClient,
        RestClient,
    }


def test_the_first_await_returns_once_the_request_has_its_place(backend, training, make_data):
    """And not later: a step queued next shares the clock cycle."""

    async def main():
        cycles = []
        for _ in range(3):
            gradient = await training.forward_backward_async(make_data(), "cross_entropy")
            step = await training.optim_step_async(AdamParams())
            cycles.append(
                [(await future).metrics["clock_cycle:unique"] for future in (gradient, step)]
            )
        assert all(first == second for first, second in cycles)

    anyio.run(main, backend=backend)


def test_both_styles_of_making_clients_work(backend, service):
    async def main():
        training = await (await service.create_lora_training_client_async("tiny", rank=2))
        sampling = await (await training.save_weights_and_get_sampling_client_async())
        return await sampling.sample_async(PROMPT, 1, GREEDY)

    newer = anyio.run(main, backend=backend)
    training = service.create_lora_training_client("tiny", rank=2).result()
    sampling = training.save_weights_and_get_sampling_client().result()
    older = sampling.sample(PROMPT, 1, GREEDY).result()
    assert older.sequences[0].tokens == newer.sequences[0].tokens
