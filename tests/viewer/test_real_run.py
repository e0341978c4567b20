"""What the viewer makes of a run that really was: two steps of `tiny`."""

import json

import anyio
import numpy as np
import pytest

from tinker_rl.clients import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.embedded import EmbeddedSamplerConfig
from tinker_rl.envs import get_dataset_builder
from tinker_rl.rl import Config, main
from tinker_rl.rl.journal import Journal
from tinker_rl.rl.log_dir import lock_log_dir
from tinker_rl.viewer import RunReader, write_page, write_trace


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a real run: two steps of `tiny`, two groups of four each."""
    folder = tmp_path_factory.mktemp("real") / "run"
    data = get_dataset_builder(
        "arithmetic",
        batch_size=2,
        group_size=4,
        model_name_for_tokenizer="tiny",
        renderer_name="qwen3_instruct",
        n_test=0,
    )
    config = Config(
        learning_rate=1e-3,
        dataset_builder=data,
        model_name="tiny",
        max_tokens=6,
        max_steps=2,
        log_path=str(folder),
        lora_rank=4,
        eval_every=0,
        save_every=0,
    )
    home = str(tmp_path_factory.mktemp("home"))
    options = EngineOptions(home=home, threads=1, sampler=EmbeddedSamplerConfig())
    with ServiceClient(engine_options=options) as client:
        anyio.run(main, config, client, backend="trio")
    return folder


@pytest.fixture
def run(folder):
    found = RunReader(folder)
    found.poll()
    yield found
    found.close()


@pytest.fixture
def journal(folder):
    with Journal.read(folder / "journal.bin") as found:
        yield found


def test_the_page_says_what_the_files_say(run, folder, journal, make, tmp_path):
    path = tmp_path / "view.html"
    summary = write_page([run], path)
    data, blobs = make.read_page(path)
    (head,) = data["runs"]
    assert head["notes"] == []
    assert head["facts"] | {"started_at": 0, "updated_at": 0} == {
        "model": "tiny",
        "steps_done": 2,
        "steps_planned": 2,
        "state": "complete",
        "reason": None,
        "started_at": 0,
        "updated_at": 0,
    }
    assert head["config"]["dataset_builder.group_size"] == 4
    assert summary.num_bytes == path.stat().st_size
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rewards = [row["env/all/reward/total"] for row in rows]
    assert blobs["0/metrics"]["series"]["env/all/reward/total"] == rewards
    totals = [r for n in range(4) for r in journal.read_group(n).outcome.group.get_total_rewards()]
    assert blobs["0/episodes"]["reward"] == totals
    assert blobs["0/episodes"]["step"] == [0] * 8 + [1] * 8
    assert min(blobs["0/episodes"]["max_ratio"]) >= 1
    assert set(blobs["0/timeline"]["lanes"]) >= {"run", "learner", "rollout"}


def test_every_token_is_shown_with_what_sampler_and_learner_said(run, journal, make):
    episodes = run.journal.chunk(0)["episodes"]
    assert len(episodes) == 16
    members = {(m.group, m.member): m for s in (0, 1) for m in journal.read_trained(s).members}
    for episode in episodes:
        group = journal.read_group(episode["group"]).outcome.group
        (step,) = group.trajectories_G[episode["member"]].transitions
        (turn,) = episode["turns"]
        assert turn["observation"] == step.ob.to_ints()
        assert turn["action"] == step.ac.tokens
        np.testing.assert_allclose(turn["logprobs"], step.ac.logprobs, rtol=6e-4, atol=1e-14)
        if said := members.get((episode["group"], episode["member"])):
            learner = turn["learner_logprobs"]
            np.testing.assert_allclose(learner, said.learner_logprobs, rtol=6e-4, atol=2e-5)


def test_a_real_run_s_trace_holds_all_of_its_spans(run, tmp_path, check_trace):
    path = tmp_path / "trace.json"
    count = write_trace([run, run], path)
    trace = json.loads(path.read_text())
    events = check_trace(trace["traceEvents"])
    assert len(events) == count
    assert {event["pid"] for event in events} == {1, 2}
    names = [event["name"] for event in events if event["ph"] == "X" and event["pid"] == 1]
    assert {f"group {n}" for n in range(4)} <= set(names)
    assert names.count("trains") == 2
    assert any(event["ph"] == "s" for event in events)
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_is_under_way_while_its_folder_is_locked(run, folder):
    assert run.head("0")["facts"]["state"] == "complete"
    with lock_log_dir(folder):
        assert run.head("0")["facts"]["state"] == "running"
