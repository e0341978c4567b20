"""Runs' folders: a real one of `tiny`, and made ones of any content."""

import base64
import json
import re
import zlib
from collections import defaultdict
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings
from tokenizers import Tokenizer

from tinker_rl.completers import TokensWithLogprobs
from tinker_rl.envs import Trajectory, TrajectoryGroup, Transition
from tinker_rl.lineup import model_path
from tinker_rl.rl.journal import (
    CommitRecord,
    FailureRecord,
    GroupRecord,
    Journal,
    StartRecord,
    TrainedMember,
    TrainedRecord,
)
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure, RolledOutGroup
from tinker_rl.types import ModelInput

# Files and other work on the same cores take their time.
settings.register_profile("viewer", parent=settings.default, deadline=None)
settings.load_profile("viewer")

GONE = EnvFailure("step", "OSError", "gone", "my_env.py:12")


def turn(prompt, action, reward=0.0, version=1, logprobs=None, **fields):
    logprobs = [-0.5] * len(action) if logprobs is None else logprobs
    observation = prompt if isinstance(prompt, ModelInput) else ModelInput.from_ints(prompt)
    sampled = TokensWithLogprobs(list(action), logprobs, policy_version=version)
    return Transition(observation, sampled, reward, True, **fields)


def episode(*turns, stop_reason="completed"):
    return Trajectory(list(turns), ModelInput.empty(), stop_reason)


def rolled_out(*episodes, final=None, tags=(), **fields):
    size = len(episodes)
    group = TrajectoryGroup(list(episodes), final or [0.0] * size, [{} for _ in range(size)])
    num_tokens = sum(len(t.ac.tokens) for e in episodes for t in e.transitions)
    return RolledOutGroup(group=group, tags=tags, num_sampled_tokens=num_tokens, **fields)


@lru_cache(maxsize=1)
def _tokenizer():
    return Tokenizer.from_file(f"{model_path('tiny')}/tokenizer.json")


def encode(text):
    """Tokens of `tiny`, without transformers, which loads torch."""
    return _tokenizer().encode(text).ids


def simple(*rewards, text="two and two"):
    """A group of one-turn episodes of two tokens each."""
    prompt = encode(text)
    return rolled_out(*(episode(turn(prompt, prompt[:2], reward)) for reward in rewards))


def dropped(failure=GONE, member=1, **fields):
    return DroppedGroup(failure=failure, member=member, num_sampled_tokens=40, **fields)


def group(number, outcome, version=0):
    return GroupRecord(group=number, policy_version=version, outcome=outcome)


def failure(number, outcome=None):
    return FailureRecord(group=number, policy_version=0, outcome=outcome or dropped())


def commit(step, *groups, **metrics):
    return CommitRecord(
        step=step, groups=groups, weight_hash=None, acting_version=step + 1, metrics=metrics
    )


def start(version=0):
    return StartRecord(version=version, weight_hash=None)


def trained(step, *members):
    """`members` are (group, place of the trajectory, learner's logprobs, advantages)."""
    return TrainedRecord(
        step=step,
        members=tuple(
            TrainedMember(
                group=number,
                member=place,
                learner_logprobs=np.array(logprobs, np.float32),
                advantages=np.array(advantages, np.float32),
            )
            for number, place, logprobs, advantages in members
        ),
    )


def append(folder, *records):
    with Journal.open(folder / "journal.bin") as journal:
        for record in records:
            journal.append(record)


def append_lines(path, *rows):
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def read_page(path):
    """What the page knows at once, and what it decodes later, by name."""
    page = path.read_bytes().decode()
    data = re.search(r'<script type="application/json" id="tinker-data">(.*?)</script>', page, re.S)
    blobs = {
        name: json.loads(zlib.decompress(base64.b64decode(blob), 31))
        for name, blob in re.findall(r'data-blob="([^"]*)">([^<]*)</script>', page)
    }
    return json.loads(data[1]), blobs


@pytest.fixture(scope="session")
def make():
    """Outcomes, records, files of them, and what a page of them says."""
    return SimpleNamespace(
        turn=turn,
        episode=episode,
        rolled_out=rolled_out,
        simple=simple,
        dropped=dropped,
        group=group,
        failure=failure,
        commit=commit,
        start=start,
        trained=trained,
        append=append,
        append_lines=append_lines,
        read_page=read_page,
        tokenizer=SimpleNamespace(encode=encode),
    )


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that has only begun."""
    (tmp_path / "config.json").write_text(
        json.dumps({"model_name": "tiny", "log_path": str(tmp_path), "dataset_builder": {"n": 3}})
    )
    return tmp_path


ASKED = {  # of each phase, beside name, pid and tid
    "X": {"ts", "dur"},
    "M": {"args"},
    "C": {"ts", "args"},
    "i": {"ts", "s"},
    "s": {"ts", "id", "cat"},
    "f": {"ts", "id", "cat", "bp"},
}


def check_events(events):
    """What the format asks for: fields, nesting in each thread, arrows that begin and end."""
    slices = defaultdict(list)
    arrows = defaultdict(dict)
    for event in events:
        assert {"name", "ph", "pid", "tid", *ASKED[event["ph"]]} <= event.keys()
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert event["dur"] >= 0
            slices[event["pid"], event["tid"]].append((event["ts"], -event["dur"]))
        if event["ph"] in "sf":
            assert isinstance(event["id"], int), "Perfetto takes no text that is not a number"
            arrows[event["id"]][event["ph"]] = event
    for spans in slices.values():
        open_ends = []
        for begin, minus in sorted(spans):
            while open_ends and open_ends[-1] <= begin:
                open_ends.pop()
            assert not open_ends or begin - minus <= open_ends[-1], "overlaps, is not nested"
            open_ends.append(begin - minus)
    for ends in arrows.values():
        for event in ends.values():
            thread = slices[event["pid"], event["tid"]]
            assert any(b <= event["ts"] < max(b - minus, b + 1) for b, minus in thread)
        assert ends["s"]["ts"] <= ends["f"]["ts"]
    return events


@pytest.fixture(scope="session")
def check_trace():
    """Holds the events of a trace against its format, and gives them back."""
    return check_events
