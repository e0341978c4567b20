import torch

from tinker_rl.engine.content_hash import content_hash


def test_the_hash_tells_weights_apart():
    weights = {"a": torch.tensor([1.0, 2.0]), "b": torch.zeros(2, 1)}
    same = {"b": torch.zeros(2, 1), "a": torch.tensor([1.0, 2.0])}
    others = [
        weights | {"a": torch.tensor([1.0, 2.0000002])},
        weights | {"b": torch.zeros(1, 2)},
        weights | {"b": torch.zeros(2, 1, dtype=torch.int32)},
        {"a": weights["a"], "c": weights["b"]},
        {"a": weights["a"]},
    ]
    assert content_hash(weights) == content_hash(same)
    hashes = {content_hash(each) for each in (weights, *others)}
    assert len(hashes) == 6
