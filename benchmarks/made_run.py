"""A run's folder as a run would leave it, of any size, without the hours: for the viewer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Trajectory, TrajectoryGroup, Transition
from tinker_rl.rl.advantages import group_advantages
from tinker_rl.rl.journal import (
    JOURNAL_FILE,
    CommitRecord,
    GroupRecord,
    Journal,
    StartRecord,
    TrainedMember,
    TrainedRecord,
)
from tinker_rl.rl.log_dir import CONFIG_FILE, METRICS_FILE
from tinker_rl.rl.outcomes import RolledOutGroup, RolloutTimes
from tinker_rl.rl.timeline import TIMELINE_FILE
from tinker_rl.tokenizers import get_tokenizer
from tinker_rl.types import ModelInput

MEMBERS, GROUPS_PER_STEP, TOKENS = 16, 8, 100
BEGAN = 1.7e9
SECONDS_PER_STEP = 12.0


def make_run(folder: Path, num_episodes: int, seed: int = 0) -> Path:
    """Write a journal, metrics and a timeline; groups of 16 episodes of about 100 tokens."""
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    num_groups = -(-num_episodes // MEMBERS)
    config = {"model_name": "tiny", "log_path": str(folder), "dataset_builder": {"type": "Made"}}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    rows: list[dict[str, object]] = []
    with Journal.open(folder / JOURNAL_FILE) as journal:
        journal.append(StartRecord(version=0, weight_hash=None))
        for step, first in enumerate(range(0, num_groups, GROUPS_PER_STEP)):
            numbers = range(first, min(first + GROUPS_PER_STEP, num_groups))
            groups = [_group(rng, number, step) for number in numbers]
            for group in groups:
                journal.append(group)
            journal.append(_trained(groups, step, seed))
            rows.append(_row(rng, step, -(-num_groups // GROUPS_PER_STEP)))
            commit = CommitRecord(
                step=step,
                groups=tuple(numbers),
                weight_hash=None,
                acting_version=step + 1,
                metrics=rows[-1],
            )
            journal.append(commit)
    _write_lines(folder / METRICS_FILE, rows)
    _write_lines(folder / TIMELINE_FILE, _spans(rng, num_groups))
    return folder


def _write_lines(path: Path, rows: object) -> None:
    path.write_bytes(msgspec.json.Encoder().encode_lines(rows))


def _group(rng: random.Random, number: int, step: int) -> GroupRecord:
    a, b = rng.randrange(100, 1000), rng.randrange(100, 1000)
    question = (
        f"<|im_start|>user\nWhat is {a} + {b}? Think first.<|im_end|>\n<|im_start|>assistant\n"
    )
    prompt = get_tokenizer("tiny").encode(question)
    rewards = [float(rng.random() < 0.3 + 0.005 * step) for _ in range(MEMBERS)]
    return GroupRecord(
        group=number,
        policy_version=step,
        outcome=RolledOutGroup(
            group=TrajectoryGroup(
                [_episode(rng, prompt, a, b, reward, step) for reward in rewards],
                [0.0] * MEMBERS,
                [{}] * MEMBERS,
            ),
            tags=("made",),
            num_sampled_tokens=MEMBERS * TOKENS,
            times=RolloutTimes(seconds=3.0, env_seconds=0.5, sample_seconds=40.0),
        ),
    )


def _episode(
    rng: random.Random, prompt: list[int], a: int, b: int, reward: float, step: int
) -> Trajectory:
    answer = a + b if reward else rng.randrange(200, 2000)
    steps = "".join(
        f"{place}: {rng.randrange(10)} and {rng.randrange(10)}, carry {rng.randrange(2)}.\n"
        for place in range(1, 9)
    )
    tokens = get_tokenizer("tiny").encode(f"{steps}So \\boxed{{{answer}}}<|im_end|>")
    logprobs = [-rng.expovariate(4.0) for _ in tokens]
    transition = Transition(
        ModelInput.from_ints(prompt),
        TokensWithLogprobs(tokens, logprobs, policy_version=step),
        reward,
        True,
        metrics={"correct": reward},
        logs={"answer": answer, "expected": a + b},
    )
    return Trajectory([transition], ModelInput.empty(), "completed")


def _trained(groups: list[GroupRecord], step: int, seed: int) -> TrainedRecord:
    noise = np.random.default_rng([seed, step])
    members: list[TrainedMember] = []
    for record in groups:
        assert isinstance(record.outcome, RolledOutGroup)
        group = record.outcome.group
        advantages = group_advantages(group.get_total_rewards())
        for member, trajectory in enumerate(group.trajectories_G):
            logprobs = np.array(trajectory.transitions[0].ac.logprobs, np.float32)
            members.append(
                TrainedMember(
                    group=record.group,
                    member=member,
                    learner_logprobs=logprobs + noise.normal(0, 0.02, logprobs.size).astype("f4"),
                    advantages=advantages[member : member + 1].astype(np.float32),
                )
            )
    return TrainedRecord(step=step, members=tuple(members))


def _row(rng: random.Random, step: int, num_steps: int) -> dict[str, object]:
    accuracy = 0.3 + 0.005 * step + rng.uniform(-0.05, 0.05)
    return {
        "step": step,
        "progress/batch": step,
        "progress/done_frac": (step + 1) / num_steps,
        "env/all/reward/total": accuracy,
        "env/all/correct": accuracy,
        "optim/entropy": 1.0 / (1 + 0.01 * step),
        "optim/kl_sample_train_v1": rng.uniform(0, 1e-3),
        "sampling/tokens_per_second": rng.uniform(900, 1100),
        "useful_token_fraction": 1.0,
    }


def _spans(rng: random.Random, num_groups: int) -> Iterator[dict[str, object]]:
    yield {"lane": "run", "name": "start", "at": BEGAN, "seconds": 0.0}
    for group in range(num_groups):
        step, place = divmod(group, GROUPS_PER_STEP)
        at = BEGAN + step * SECONDS_PER_STEP + rng.uniform(0, 2)
        seconds = rng.uniform(2, 7)
        yield {
            "lane": "rollout",
            "name": f"group {group}",
            "at": at,
            "seconds": seconds,
            "group": group,
            "version": step,
            "outcome": "rolled_out",
            "tokens": MEMBERS * TOKENS,
            "env_seconds": 0.5,
            "sample_seconds": 40.0,
            "members": MEMBERS,
            "turns": [[m, "s", 0.01, seconds - 0.1] for m in range(MEMBERS)],
        }
        if place == GROUPS_PER_STEP - 1 or group == num_groups - 1:
            ended = BEGAN + step * SECONDS_PER_STEP + 9
            facts = {"lane": "learner", "step": step}
            wait = {"name": "waits for groups", "at": ended - 6, "seconds": 6.0, "group": group}
            yield facts | wait
            yield facts | {"name": "trains", "at": ended, "seconds": 2.5}
            yield facts | {"name": "publishes", "at": ended + 2.5, "seconds": 0.4}
