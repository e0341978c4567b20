"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> str:
    """The event loops that everything asynchronous must run on."""
    return request.param


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
