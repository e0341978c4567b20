"""The project's own environments, and how long `check_env` takes on each.

python benchmarks/env_checks.py
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tempfile
import time
import types
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from tinker_rl.envs import (
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    ProblemGroupBuilder,
    get_dataset_builder,
    load_renderer,
)
from tinker_rl.policies import EpisodeKey
from tinker_rl.renderers import Renderer
from tinker_rl.rl import RolloutLimits, do_group_rollout
from tinker_rl.testing import FakeJudge, NonsenseCompleter, check_env, is_longer

ROOT = Path(__file__).parents[1]
Row = tuple[str, str, str]
Rows = tuple[list[Row], dict[str, float]]

GSM8K_ROW = {
    "question": "A hen lays 3 eggs a day. How many does it lay in 6 days?",
    "answer": "It lays 3 * 6 = 18 eggs.\n#### 18",
}


class ProjectEnvironment(msgspec.Struct, frozen=True):
    """One of the project's environments, and what it says of itself."""

    builder: Any
    options: dict[str, Any] = {}
    narrowed: str = ""
    """What is not checked by default settings, and why."""

    def check(self, **more: Any) -> Any:
        """Check it, as its users would."""
        return check_env(self.builder, **{**self.options, **more})


def project_environments(
    gsm8k_data: str | Path | None = None, *, group_size: int = 2
) -> dict[str, ProjectEnvironment]:
    """Every environment that the project ships, documents or shows as an example, by name.

    Args:
        gsm8k_data: Folder of the data set; None: one row of our own.
        group_size: Members of each group.
    """
    boxed = {"reward_range": (-0.1, 1.0), "context_window": 4096}
    custom = _module("custom_env", ROOT / "examples" / "custom_env.py")
    (custom_builder,) = (
        kind
        for name, kind in vars(custom).items()
        if name.endswith("DatasetBuilder") and kind.__module__ == custom.__name__
    )
    game: Any = _module("guessing_game", ROOT / "examples" / "guessing_game.py")
    nim: Any = _module("two_players", ROOT / "examples" / "two_players.py")
    tools: Any = _module("tool_env", ROOT / "examples" / "tool_env.py")
    docs = _pieces_of_docs()
    renderer = load_renderer("tiny", "qwen3_instruct")
    letters = partial(docs["LetterEnv"], "banana", "a", renderer)
    return {
        "arithmetic": ProjectEnvironment(_first_of("arithmetic", group_size), boxed),
        "gsm8k": ProjectEnvironment(_gsm8k(gsm8k_data, group_size), boxed),
        "examples/custom_env": ProjectEnvironment(
            _first(
                custom_builder(
                    batch_size=1,
                    group_size=group_size,
                    model_name_for_tokenizer="tiny",
                    renderer_name="qwen3_instruct",
                )
            )
        ),
        "docs/LetterEnv": ProjectEnvironment(
            ProblemGroupBuilder(letters, group_size), {"reward_range": (-0.1, 1.0)}
        ),
        "docs/TwoSums": ProjectEnvironment(
            docs["TwoSumsGroupBuilder"]((1, 2, 3), renderer, group_size),
            {"max_turns": 2, "valid_actions": ["\\boxed{3}", "\\boxed{6}", "\\boxed{5}"]},
        ),
        "docs/GuessEnv": ProjectEnvironment(
            docs["GuessGroupBuilder"](renderer, group_size),
            {"limits": RolloutLimits(max_turns=10), "valid_actions": ["50", "1", "100"]},
        ),
        "docs/AddEnv": ProjectEnvironment(
            ProblemGroupBuilder(partial(_conversation, renderer, docs["AddEnv"], 2, 3), group_size),
            {"limits": RolloutLimits(max_turns=4), "valid_actions": ["5"]},
        ),
        "docs/ComparedGroupBuilder": ProjectEnvironment(
            docs["ComparedGroupBuilder"]("Why?", FakeJudge(is_longer), renderer, group_size),
            {"max_turns": 1, "valid_actions": ["So.", "I do not know."]},
        ),
        "docs/CopyEnv": ProjectEnvironment(
            ProblemGroupBuilder(partial(docs["CopyEnv"], length=3), group_size),
            {"reward_range": (0.0, 1.0), "renderer": 10},
        ),
        "docs/SlowEnv": ProjectEnvironment(
            ProblemGroupBuilder(partial(docs["SlowEnv"], length=3), group_size),
            {"renderer": 10, "max_examples": 2, "properties": ["answers_any_action", "pickles"]},
            narrowed="2 cases and 2 properties, as each step sleeps 0.1 s",
        ),
        "examples/guessing_game": ProjectEnvironment(
            game.make_group(), {"max_turns": game.MOST_GUESSES, "valid_actions": ["10", "1", "20"]}
        ),
        "examples/two_players": ProjectEnvironment(
            nim.make_group,
            {"max_turns": 10, "valid_actions": nim.MOVES, "reward_range": (-1.0, 1.0)},
        ),
        "examples/tool_env": ProjectEnvironment(
            tools.make_group,
            {
                "max_turns": tools.MOST_TURNS,
                "valid_episodes": [tools.SOLUTION],
                "tools": tools.NotebookEnv.tools,
                "reward_range": (-1.0, 1.0),
            },
        ),
    }


def _conversation(renderer: Renderer, kind: type[MessageEnv], *task: Any) -> EnvFromMessageEnv:
    return EnvFromMessageEnv(renderer, kind(*task))


def measure_check_env(gsm8k_data: str | Path | None = None) -> Rows:
    """How long `check_env` takes on each environment, and how often it could be rolled out plainly.

    The baseline are rollouts of the same environment with nonsensical actions, nothing checked.
    """
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    for name, environment in project_environments(gsm8k_data).items():
        began = time.perf_counter()
        report = environment.check()
        seconds[name] = time.perf_counter() - began
        plain = _plain_rollout(environment)
        how = f"{report.num_episodes} episodes; {seconds[name] / plain:.0f} x a plain rollout"
        if environment.narrowed:
            how += f"; {environment.narrowed}"
        rows.append((f"check_env, {name}", f"{seconds[name]:.1f} s", how))
    return rows, {"check_env_max_s": max(seconds.values())}


def _plain_rollout(environment: ProjectEnvironment, times: int = 5) -> float:
    """Seconds of rolling out a group of the environment once."""
    tokens = environment.options.get("renderer") or load_renderer("tiny", "qwen3_instruct")
    actor = NonsenseCompleter(tokens, seed=0)
    limits = RolloutLimits(max_turns=10)

    async def play() -> float:
        began = time.perf_counter()
        for group in range(times):
            key = EpisodeKey(run_seed=0, group=group)
            given = environment.builder
            builder = given if isinstance(given, EnvGroupBuilder) else given()
            await do_group_rollout(builder, actor, key, limits)
        return (time.perf_counter() - began) / times

    return anyio.run(play, backend="trio")


def _first_of(name: str, group_size: int, **settings: Any) -> Any:
    builder = get_dataset_builder(
        name,
        batch_size=1,
        group_size=group_size,
        model_name_for_tokenizer="tiny",
        renderer_name="qwen3_instruct",
        **settings,
    )
    return _first(builder)


def _first(dataset_builder: Any) -> Any:
    """The first group of a data set."""
    train, _ = anyio.run(dataset_builder)
    return train.get_batch(0)[0]


def _gsm8k(data: str | Path | None, group_size: int) -> Any:
    if data is not None:
        return _first_of("gsm8k", group_size, data_path=str(data), n_test=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(json.dumps(GSM8K_ROW) + "\n")
        return _first_of("gsm8k", group_size, data_path=str(path))


def _module(name: str, path: Path) -> Any:
    """A file as a module that pickle and chz find again."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pieces_of_docs() -> dict[str, Any]:
    """What the examples of docs/environments.md define."""
    text = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    module = sys.modules["docs_environments"] = types.ModuleType("docs_environments")
    for piece in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        if re.search(r"^class \w+\((ProblemEnv|MessageEnv|Env|CopyEnv)\)", piece, re.MULTILINE):
            code = compile(piece, "docs/environments.md", "exec", dont_inherit=True)
            exec(code, vars(module))
    return vars(module)


if __name__ == "__main__":
    from report import report

    report("check_env on the project's environments", *measure_check_env())
