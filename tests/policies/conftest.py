"""An engine whose samples are the same bits whatever else runs."""

import pytest

from tinker_rl.clients import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.engine.samplers.embedded.sampler import EmbeddedSamplerConfig


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    options = EngineOptions(
        home=str(tmp_path_factory.mktemp("home")),
        threads=1,
        sampler=EmbeddedSamplerConfig(deterministic=True),
    )
    with ServiceClient(engine_options=options) as client:
        yield client
