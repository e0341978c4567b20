"""Adapters come and go without a trace in memory."""

import gc

import torch

from tinker_rl import AdamParams, LoraConfig


def live():
    """Number of tensors, and the bytes behind them."""
    gc.collect()
    found = {}
    for item in gc.get_objects():
        if issubclass(type(item), torch.Tensor):  # not isinstance: some objects warn when asked
            found[id(item)] = (item.untyped_storage().data_ptr(), item.untyped_storage().nbytes())
    return len(found), sum(dict(found.values()).values())


def test_forty_adapters_leave_no_tensor_behind(make_learner, run, make_data):
    learner = make_learner()
    learner.create("stays", LoraConfig(rank=4, seed=0))
    data = make_data([12, 7])

    def use(number):
        name = f"model:{number}"
        rank = 1 + number % 8
        learner.create(name, LoraConfig(rank=rank, seed=number, train_mlp=bool(number % 2)))
        for each in (name, "stays", name):  # switching
            run(learner.forward_backward(each, data, "cross_entropy"))
            learner.optim_step(each, AdamParams())
        learner.load_weights(name, learner.weights(name))
        learner.remove(name)

    for number in range(4):  # what is made once and kept
        use(number)
    before = live()
    modules = sum(1 for _ in learner._model.modules())
    for number in range(4, 44):  # every rank five times
        use(number)
    assert live() == before
    assert sum(1 for _ in learner._model.modules()) == modules
    assert set(learner._adapters) == {"stays"}
