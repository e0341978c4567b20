"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> str:
    """The event loops that everything asynchronous must run on."""
    return request.param


def pytest_collection_finish() -> None:
    """Libraries and tests, half a million objects, are not walked through again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Libraries complain of what is left at the end."""
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def _private_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test writes into the user's own store."""
    os.environ["TINKER_RL_HOME"] = str(tmp_path_factory.mktemp("tinker_rl_home"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets: TINKER_RL_DATA, or `../shared/data` beside the project."""
    places = [
        Path(os.environ["TINKER_RL_DATA"]) if os.environ.get("TINKER_RL_DATA") else None,
        Path(__file__).parents[2] / "shared" / "data",
    ]
    for place in places:
        if place is not None and place.is_dir():
            return place
    pytest.skip("real data sets: neither TINKER_RL_DATA nor ../shared/data is there")


@pytest.fixture(scope="session")
def save_model(tmp_path_factory: pytest.TempPathFactory):
    """Writes a folder with a small random model of a configuration, and `tiny`'s tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    from tinker_rl.lineup import model_path
    from tinker_rl.tokenizers import get_tokenizer

    def save(config, name="model") -> str:
        folder = tmp_path_factory.mktemp(name)
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (folder / file).write_bytes((Path(model_path("tiny")) / file).read_bytes())
        config.vocab_size = 1024
        config.eos_token_id = get_tokenizer("tiny").eos_token_id
        config.initializer_range = 0.2
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="session")
def llama(save_model) -> str:
    """A folder with a small random Llama; its unembedding is not tied."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    return save_model(config, "llama")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory):
    """An engine whose samples are the same bits whatever else runs."""
    from tinker_rl.clients import ServiceClient
    from tinker_rl.engine.local import EngineOptions
    from tinker_rl.engine.samplers.embedded import EmbeddedSamplerConfig

    options = EngineOptions(
        home=str(tmp_path_factory.mktemp("home")),
        threads=1,
        sampler=EmbeddedSamplerConfig(deterministic=True),
    )
    with ServiceClient(engine_options=options) as client:
        yield client


@pytest.fixture
def run_inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a program's main function in this process; gives its status, and what it printed."""

    def run(main, *arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as left:
            status = left.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


class Traces:
    """What programs with engines of vLLM leave behind: processes, files, shared memory."""

    NAMES = ("tinker_rl-*", "psm_*", "sem.mp-*", "????????-????-????-*")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"TMPDIR": str(folder)}
        """Of the programs."""
        self._before = self._files()

    def _files(self) -> set[Path]:
        places = (Path("/dev/shm"), self.folder)
        return {path for place in places for name in self.NAMES for path in place.glob(name)}

    def _processes(self) -> set[int]:
        """All of an engine write into its log, also those that hide their environment."""
        found: set[int] = set()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/1").startswith(str(self.folder)):
                    found.add(pid)
        return found

    def check(self) -> None:
        """Nothing is left, at the latest when the guards have done their work."""
        end = time.monotonic() + 120
        while self._processes() or self._files() - self._before:
            assert time.monotonic() < end, (self._processes(), self._files() - self._before)
            time.sleep(0.1)

    def has_processes(self) -> bool:
        """Whether there are some now."""
        return bool(self._processes())


@pytest.fixture
def traces(tmp_path: Path) -> Traces:
    """Looks for what programs leave behind that run with its environment."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return Traces(folder)
