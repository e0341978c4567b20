import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinker_rl.clients import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.errors import JournalError, UnsupportedError
from tinker_rl.rl.batch_training import train_batch
from tinker_rl.rl.journal import CommitRecord, GroupRecord, Journal, TrainingOptions
from tinker_rl.rl.outcomes import DroppedGroup, InfraFailure, RolledOutGroup
from tinker_rl.rl.replay import commits_to_replay, recompute_step, replay_step, weight_hash
from tinker_rl.rl.step_metrics import batch_metrics

OPTIONS = TrainingOptions(learning_rate=1e-2, loss_fn="ppo", num_substeps=2)
DROPPED = DroppedGroup(
    failure=InfraFailure("sample", "SamplerError", "gone"), member=0, num_sampled_tokens=9
)

steps = st.integers(0, 6)


def journal_of(folder, records):
    journal = Journal.open(Path(folder) / "journal.bin")
    for record in records:
        journal.append(record)
    return journal


def commit_of(step, groups=(), training=OPTIONS):
    return CommitRecord(
        step=step, groups=groups, weight_hash=None, acting_version=step, training=training
    )


@given(committed=st.sets(steps), untold=st.sets(steps, max_size=1), first=steps, more=steps)
def test_all_steps_from_the_first_are_replayed_in_order_or_none(committed, untold, first, more):
    last = first + more
    commits = [commit_of(s, training=None if s in untold else OPTIONS) for s in sorted(committed)]
    wanted = range(first, last + 1)
    with tempfile.TemporaryDirectory() as folder, journal_of(folder, commits) as journal:
        missing = [step for step in wanted if step not in committed]
        if missing:
            with pytest.raises(JournalError, match=f"got none of number {missing[0]}"):
                commits_to_replay(journal, last, first)
        elif untold & {*wanted}:
            with pytest.raises(JournalError, match=r"to say how it trained.*cannot be replayed"):
                commits_to_replay(journal, last, first)
        else:
            found = [commit.step for commit in commits_to_replay(journal, last, first)]
            assert found == list(wanted)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    options = EngineOptions(home=str(tmp_path_factory.mktemp("home")), threads=1)
    with ServiceClient(engine_options=options) as client:
        yield client


async def model(service):
    return await service.create_lora_training_client_async("tiny", 4, seed=3)


def group_records(episodes, rewards):
    """A dropped group, one of no number, and one for each list of rewards."""
    outcomes = [DROPPED, None]
    for rewards_G in rewards:
        group = episodes.group_of(rewards_G, version=0)
        outcomes.append(RolledOutGroup(group=group, tags=(), num_sampled_tokens=4))
    return [
        GroupRecord(group=number, policy_version=0, outcome=outcome)
        for number, outcome in enumerate(outcomes)
    ]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rewards=st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=3), max_size=4)
)
def test_a_step_gives_its_numbers_and_its_weights_again(backend, service, episodes, rewards):
    records = group_records(episodes, rewards)
    numbers = tuple(reversed(range(len(records))))

    async def first_time():
        client = await model(service)
        trained = await train_batch(client, [records[n] for n in numbers], OPTIONS, 1)
        outcomes = [records[n].outcome for n in numbers]
        return batch_metrics(outcomes, trained, 1), await weight_hash(client)

    async def again(journal):
        client = await model(service)
        recomputed = await recompute_step(client, journal, commit_of(1, numbers))
        assert recomputed.step == 1
        return recomputed.metrics, await weight_hash(client)

    metrics, digest = anyio.run(first_time, backend=backend)
    with tempfile.TemporaryDirectory() as folder, journal_of(folder, records) as journal:
        recomputed, digest_again = anyio.run(again, journal, backend=backend)
    assert digest is not None
    assert digest_again == digest
    for name in ("sampling/tokens", "useful_token_fraction"):
        assert name in recomputed
    clock = ("time/", "optim/tokens_per_second", "optim/mfu", "optim/forward_backward_seconds")
    for name, value in metrics.items():
        if not name.startswith(clock) and not name.endswith(("_seconds", "_per_second")):
            assert recomputed[name] == value, name
    assert not any(name.startswith("time/") for name in recomputed)


def test_a_commit_that_does_not_say_how_it_trained_is_not_replayed(backend, service, tmp_path):
    async def replay(journal):
        await replay_step(await model(service), journal, commit_of(0, training=None))

    with (
        journal_of(tmp_path, []) as journal,
        pytest.raises(JournalError, match="expected step 0 to say how it trained"),
    ):
        anyio.run(replay, journal, backend=backend)


class WithoutSampler:
    """A model that the engine has no sampler for."""

    async def save_weights_and_get_sampling_client_async(self):
        raise UnsupportedError("sample: this base model has no sampler.")


def test_without_a_sampler_there_is_no_hash(backend):
    assert anyio.run(weight_hash, WithoutSampler(), backend=backend) is None
