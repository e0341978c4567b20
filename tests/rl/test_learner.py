import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.clients import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.rl.data import trajectory_to_data
from tinker_rl.rl.learner import ADAM_EPS, LossConfig, reduce_metrics, split_evenly, train_step
from tinker_rl.types import AdamParams


@given(items=st.lists(st.integers(), max_size=30), num_parts=st.integers(1, 10))
def test_parts_are_consecutive_even_and_never_empty(items, num_parts):
    parts = split_evenly(items, num_parts)
    assert [item for part in parts for item in part] == items
    assert len(parts) == min(num_parts, len(items))
    sizes = [len(part) for part in parts]
    assert not sizes or (min(sizes) >= 1 and max(sizes) - min(sizes) <= 1)


def test_metrics_of_several_requests_are_reduced_as_their_names_say():
    reported = [
        {"loss:sum": 1.0, "norm:mean": 2.0, "low:min": 1.0, "high:max": 1.0, "clock:unique": 7.0},
        {"loss:sum": 2.0, "norm:mean": 4.0, "low:min": 3.0, "high:max": 3.0, "plain": 5.0},
    ]
    assert reduce_metrics(reported) == {
        "loss": 3.0,
        "norm": 3.0,
        "low": 1.0,
        "high": 3.0,
        "plain": 5.0,
    }
    assert reduce_metrics([]) == {}
    assert reduce_metrics([{"loss:sum": 0.1}])["loss"] == pytest.approx(0.1)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    options = EngineOptions(home=str(tmp_path_factory.mktemp("home")), threads=1)
    with ServiceClient(engine_options=options) as client:
        yield client


def scored(client, sequences):
    output = client.forward([s.datum for s in sequences], "importance_sampling").result()
    return [entry["logprobs"].tolist() for entry in output.loss_fn_outputs]


def test_substeps_are_optimiser_steps_on_whole_groups_in_order(service, episodes, backend):
    groups = [
        [
            sequence
            for member, gain in enumerate((1.0, -1.0))
            for sequence in trajectory_to_data(
                episodes.one_step_trajectory([5, 6], [7 + number, 8 + member]), gain
            )
        ]
        for number in range(3)
    ]
    every = [sequence for group in groups for sequence in group]

    def fresh():
        return service.create_lora_training_client("tiny", rank=4, seed=0)

    def by_hand(parts):
        client = fresh()
        logprobs = []
        for part in parts:
            data = [s.datum for group in part for s in group]
            output = client.forward_backward(data, "importance_sampling").result()
            client.optim_step(AdamParams(learning_rate=1e-2, eps=ADAM_EPS)).result()
            logprobs += [entry["logprobs"].to_numpy() for entry in output.loss_fn_outputs]
        return client, logprobs

    def by_train_step(num_substeps):
        client = fresh()
        config = LossConfig(learning_rate=1e-2, num_substeps=num_substeps)
        # An empty group, all of whose actions were empty, is none that a substep could be made of.
        return client, anyio.run(train_step, client, [*groups, []], config, backend=backend)

    for num_substeps, parts in ((1, [groups]), (2, [groups[:1], groups[1:]])):
        expected, logprobs = by_hand(parts)
        client, output = by_train_step(num_substeps)
        assert scored(client, every) == scored(expected, every)
        assert output.sequences == tuple(every)
        for ours, theirs in zip(output.learner_logprobs_D, logprobs, strict=True):
            assert np.array_equal(ours, theirs)
        assert set(output.metrics) >= {"optim/loss", "optim/grad_norm"}
    assert scored(by_train_step(1)[0], every) != scored(by_train_step(2)[0], every)
