"""What a set of weights is known by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["content_hash"]


def content_hash(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and bytes of the tensors: equal for equal weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()
