"""What each schedule does to ages, batches and weights."""

import numpy as np
import pytest

from tinker_rl.rl.batch_training import training_data
from tinker_rl.types import EncodedTextChunk


def steps(log_path, runs):
    return [row for row in runs.rows(log_path) if "progress/batch" in row]


def ages(records, commit):
    """Of every action token of a batch."""
    groups = [records.groups[number].outcome.group for number in commit.groups]
    return [
        commit.step - version
        for group in groups
        for trajectory in group.trajectories_G
        for transition in trajectory.transitions
        for version, count in transition.ac.spans
        for _ in range(count)
    ]


def check_ages(log_path, runs):
    """Compare what the rows say with the tokens of the journal; gives the ages, step by step."""
    found = runs.records(log_path)
    by_step = [ages(found, commit) for commit in found.commits]
    for row, ages_of_batch in zip(steps(log_path, runs), by_step, strict=True):
        assert row["async/staleness_mean"] == pytest.approx(np.mean(ages_of_batch))
        assert row["async/staleness_min"] == min(ages_of_batch)
        assert row["async/staleness_max"] == max(ages_of_batch)
        for age in set(ages_of_batch):
            share = ages_of_batch.count(age) / len(ages_of_batch)
            assert row[f"async/age_{age}_frac"] == pytest.approx(share)
    return by_step


def check_what_the_learner_said(log_path, runs):
    """The tokens of the journal give the numbers of the rows."""
    found = runs.records(log_path)
    assert [said.step for said in found.said] == [commit.step for commit in found.commits]
    for row, said in zip(steps(log_path, runs), found.said, strict=True):
        differences = []
        for member in said.members:
            trajectory = found.groups[member.group].outcome.group.trajectories_G[member.member]
            sampler = [lp for step in trajectory.transitions for lp in step.ac.logprobs]
            differences.append(np.array(sampler) - member.learner_logprobs)
            assert not np.isnan(member.learner_logprobs).any()
        if differences:
            kl = np.concatenate(differences).mean()
            assert row["optim/kl_sample_train_v1"] == pytest.approx(kl, abs=1e-6)


@pytest.mark.parametrize(("parts", "backend"), [(None, "trio"), (2, "asyncio")])
def test_with_the_newest_lag_no_token_is_over_age_and_none_is_wasted(
    runs, backend, world, tmp_path, parts
):
    world.sleep_at_random(3, most=0.1)
    config = runs.config(
        tmp_path,
        runs.Data(num_batches=8),
        async_config=runs.ahead(2),
        stream_minibatch_config=runs.stream(parts) if parts else None,
    )
    runs.run(config, backend)
    by_step = check_ages(tmp_path, runs)
    assert 1 <= max(map(max, by_step)) <= 2
    check_what_the_learner_said(tmp_path, runs)
    assert [row["useful_token_fraction"] for row in steps(tmp_path, runs)] == [1.0] * 8
    assert runs.trained(tmp_path) == list(range(16))
    assert all(world.made[group] == 1 for group in range(16))


def test_with_mask_a_batch_does_not_wait_and_tokens_over_age_do_not_train(
    runs, backend, world, tmp_path
):
    """Group 1 is finished after version 3 is published, three steps late."""

    async def slow(group, member, turn):
        if group == 1 and turn == 1:
            await world.until_started(16)

    world.before_step = slow
    mask = runs.ahead(1, 4, straggler="mask", max_masked_fraction=0.25)
    config = runs.config(tmp_path, runs.Data(batch_size=4), async_config=mask)
    runs.run(config, backend)
    found = runs.records(tmp_path)
    assert sorted(runs.trained(tmp_path)) == list(range(20))
    (late,) = [commit for commit in found.commits if 1 in commit.groups]
    assert late.step >= 3
    assert found.groups[1].policy_version == 0

    records = [found.groups[number] for number in late.groups]
    (place,) = [place for place, number in enumerate(late.groups) if number == 1]
    data, _ = training_data(records, late.training, late.step)
    assert data[place] == []
    assert all(group for number, group in zip(late.groups, data, strict=True) if number != 1)
    for row in steps(tmp_path, runs):
        is_late = row["step"] == late.step
        assert row["async/staleness_max"] <= 1
        assert row["async/tokens_over_age"] == (2 * 2 * 3 if is_late else 0)
        assert row["useful_token_fraction"] == pytest.approx(0.75 if is_late else 1.0)


def test_an_episode_that_refreshes_at_turns_acts_with_several_versions(runs, world, tmp_path):
    """Group 5 of batch 2 acts again after version 2 is published."""

    async def slow(group, member, turn):
        if group == 5 and turn == 0:
            await world.until_started(8)

    world.before_step = slow
    refreshes = runs.ahead(2, refresh="turn")
    config = runs.config(tmp_path, async_config=refreshes, save_every=1)
    runs.run(config)
    by_step = check_ages(tmp_path, runs)
    assert max(by_step[2]) == 2
    group = runs.records(tmp_path).groups[5]
    for trajectory in group.outcome.group.trajectories_G:
        assert [turn.ac.spans for turn in trajectory.transitions] == [((0, 3),), ((2, 3),)]
    check_logprobs(tmp_path, runs)


def test_an_action_that_is_interrupted_goes_on_with_the_newest_weights(
    runs, backend, world, tmp_path
):
    """Groups 0 to 3 act once, with one token; group 5 is sampling when their batches train."""
    world.turns = dict.fromkeys(range(10), 1)
    world.stop = {group: list(range(1024)) for group in range(10) if group != 5}
    refreshes = runs.ahead(2, refresh="publish")
    config = runs.config(tmp_path, max_tokens=300, async_config=refreshes, save_every=1)
    runs.run(config, backend)
    check_ages(tmp_path, runs)
    group = runs.records(tmp_path).groups[5]
    spans = [t.transitions[0].ac.spans for t in group.outcome.group.trajectories_G]
    assert any(len(parts) > 1 for parts in spans)
    for parts in spans:
        versions = [version for version, _ in parts]
        assert versions == sorted(set(versions))
        assert set(versions) <= {0, 1, 2}
    check_logprobs(tmp_path, runs)


def check_logprobs(log_path, runs):
    """Every token's logprob is that of the version it is marked with, and of no other."""
    service = runs.service
    paths = {record["batch"]: record["sampler_path"] for record in runs.checkpoints(log_path)}
    clients = {version: service.create_sampling_client(path) for version, path in paths.items()}
    clients[0] = service.create_sampling_client(base_model="tiny")
    found = runs.records(log_path)
    for record in found.groups.values():
        for trajectory in record.outcome.group.trajectories_G:
            for transition in trajectory.transitions:
                action = transition.ac
                prompt = transition.ob.append(EncodedTextChunk(tuple(action.tokens)))
                start = 0
                for version, count in action.spans:
                    scored = clients[version].compute_logprobs(prompt).result()
                    theirs = scored[transition.ob.length :][start : start + count]
                    ours = action.logprobs[start : start + count]
                    assert ours == pytest.approx(theirs, abs=2e-4)
                    start += count
