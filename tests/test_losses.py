import pytest

from tinker_rl import losses, register_loss
from tinker_rl.errors import ConfigError
from tinker_rl.losses import BUILT_IN, registered_losses


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(losses, "_registered", {})


def reinforce(logprobs, inputs, config):
    return -logprobs * inputs["advantages"]


def test_a_loss_is_registered_with_what_it_needs():
    register_loss(
        "reinforce", reinforce, inputs=["advantages"], defaults={"scale": 2.0}, mask="advantages"
    )
    spec = registered_losses()["reinforce"]
    assert (spec.fn, spec.inputs, spec.mask) == (reinforce, ("advantages",), "advantages")
    assert spec.defaults == {"scale": 2.0}
    assert spec.scope == "token"


def test_a_name_stands_for_what_was_registered_last():
    register_loss("mine", reinforce)
    register_loss("mine", reinforce, scope="sequence")
    assert registered_losses()["mine"].scope == "sequence"


@pytest.mark.parametrize("name", [*BUILT_IN, ""])
def test_the_names_of_the_api_keep_their_meaning(name):
    with pytest.raises(ConfigError, match="expected a name of your own"):
        register_loss(name, reinforce)


@pytest.mark.parametrize(
    "arguments", [{"mask": "weights"}, {"optional": ("weights",)}, {"scope": "batch"}]
)
def test_arguments_that_contradict_each_other_are_refused(arguments):
    with pytest.raises(ConfigError, match="register_loss: expected"):
        register_loss("mine", reinforce, **arguments)
    assert not registered_losses()
