"""A second set of modules over the learner's base weights, which samples and never trains.

The base tensors are shared, not copied; the linear layers take the weights of one sampler version
at a time. So a sampler never touches the learner's adapters, nor waits for them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tinker_rl.engine.attention import attention_kinds
from tinker_rl.engine.samplers.base import AdapterWeights
from tinker_rl.engine.samplers.embedded.chunk import Chunk
from tinker_rl.engine.samplers.embedded.kv_cache import PromptKeys, SlotCache
from tinker_rl.engine.scoring import PROBE, PROBE_TOLERANCE, LanguageModel, probe_difference
from tinker_rl.errors import UnsupportedError

__all__ = ["Replica", "VersionTensors"]

_ATTENTION = "tinker_slots"
_MERGE_LIMIT = 128 * 1024 * 1024
"""Most target weights, in elements, of which a merged copy is made for each version."""


class SwappableLinear(nn.Module):
    """A linear layer whose weights, or low-rank addition, can be exchanged for others."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        weight = cast(Tensor, base.weight)
        # Not registered: these are the base model's tensors, on loan.
        object.__setattr__(self, "weight", weight.T if isinstance(base, Conv1D) else weight)
        object.__setattr__(self, "bias", cast("Tensor | None", base.bias))
        self.merged: Tensor | None = None
        self.low_rank: tuple[Tensor, Tensor] | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden @ weight.T + bias, with the version's change of weight."""
        if self.merged is not None:
            return F.linear(hidden, self.merged, self.bias)
        out = F.linear(hidden, self.weight, self.bias)
        if self.low_rank is not None:
            down, up = self.low_rank
            out = out + F.linear(F.linear(hidden.to(down.dtype), down), up).to(out.dtype)
        return out


class VersionTensors:
    """One version, ready to be put into the layers: merged weights, or low-rank pairs."""

    def __init__(self, layers: Mapping[str, SwappableLinear], weights: AdapterWeights) -> None:
        self.merged: dict[str, Tensor] = {}
        self.low_rank: dict[str, tuple[Tensor, Tensor]] = {}
        pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for key, down in weights.tensors.items():
            path, found, _ = key.removeprefix("base_model.model.").partition(".lora_A.")
            if found:
                up = weights.tensors[key.replace(".lora_A.", ".lora_B.")]
                pairs[path] = (down, up * weights.scale)
        unknown = sorted(set(pairs) - set(layers))
        if unknown:
            raise UnsupportedError(
                f"sampler weights: expected adapters on linear layers of the base model; got "
                f"{unknown[0]}. Sample them with another sampler."
            )
        full_precision = all(layers[path].weight.dtype == torch.float32 for path in pairs)
        size = sum(layers[path].weight.numel() for path in pairs)
        # Merging in bfloat16 would round the change away, and merging much would cost a copy.
        if full_precision and size <= _MERGE_LIMIT:
            for path, (down, up) in pairs.items():
                base = layers[path].weight
                self.merged[path] = torch.addmm(base, up.to(base.device), down.to(base.device))
        else:
            for path, (down, up) in pairs.items():
                device = layers[path].weight.device
                self.low_rank[path] = (down.to(device), up.to(device))


class _Plan(threading.local):
    """What the attention function cannot learn from its arguments; each device thread has one."""

    chunk: Chunk | None = None
    """The tokens of prompts that are being read; None in a decoding step."""
    decode_mask: Tensor | None = None
    """Additive mask [R, 1, 1, L] of a decoding step."""


_plan = _Plan()


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over the keys of prompts, or over key-value slots.

    Query [R, heads, T, D], key and value [R, kv heads, L, D]. The keys of a chunk are its own.
    """
    if _plan.chunk is not None:
        return _plan.chunk.attend(query, scaling), None
    rows, heads, _, size = query.shape
    # One position a row: heads that share keys stand side by side as if they were positions.
    grouped = query.reshape(rows, key.shape[1], -1, size)
    out = F.scaled_dot_product_attention(
        grouped, key, value, attn_mask=_plan.decode_mask, scale=scaling
    )
    return out.reshape(rows, 1, heads, size), None


# No mask function goes with it: transformers then makes no mask, and `_plan` holds the one we need.
AttentionInterface.register(_ATTENTION, _attend)


def _check_attention(model: PreTrainedModel) -> None:
    kinds = attention_kinds(model)
    if kinds != {"full_attention"}:
        raise UnsupportedError(
            f"embedded sampler: expected full attention in every layer; got {sorted(kinds)} in "
            f"{type(model).__name__}. Sample this model with vLLM."
        )


class Replica:
    """The base model as the embedded sampler runs it."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Build the modules. `model` must not carry adapters yet.

        Raises:
            UnsupportedError: if its attention or its logits are not of the plain kind.
        """
        _check_attention(model)
        reason = LanguageModel(model).check_supported()
        if reason:
            raise UnsupportedError(f"embedded sampler: {type(model).__name__}: {reason}.")
        shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
        twin: PreTrainedModel = copy.deepcopy(model, shared)
        self.layers: dict[str, SwappableLinear] = {}
        for path, module in list(twin.named_modules()):
            if isinstance(module, nn.Linear | Conv1D):
                self.layers[path] = SwappableLinear(module)
                parent, _, leaf = path.rpartition(".")
                setattr(twin.get_submodule(parent), leaf, self.layers[path])
        twin.set_attn_implementation(_ATTENTION)
        self.language_model = LanguageModel(twin)
        self.config = twin.config.get_text_config()
        self.device = model.device
        self.dtype = model.dtype
        self._current: VersionTensors | None = None
        self._check_equal(model)

    def _check_equal(self, model: PreTrainedModel) -> None:
        """Compare with the model itself: an architecture may do more than its configuration says.

        Raises:
            UnsupportedError: if a few tokens, the last ones decoded, get other logprobs.
        """
        ids = PROBE.to(self.device) % self.vocab_size
        split = ids.shape[1] // 2
        try:
            with torch.no_grad():
                expected = model(input_ids=ids, use_cache=False).logits[0, split - 1 :]
                keys, cache = PromptKeys(split), SlotCache()
                for start, stop in ((0, split // 2), (split // 2, split)):
                    chunk = Chunk([(keys, stop - start)], self.device, self.dtype)
                    last_H = self.read(ids[0, start:stop], chunk)[-1]
                hidden = [last_H[None]]
                cache.reserve(keys.whole, 1, ids.shape[1])
                cache.put(0, 1, [keys.whole])
                for position in range(split, ids.shape[1]):
                    at = torch.tensor([position], device=self.device)
                    cache.aim(1, at, position + 1)
                    mask = torch.zeros(1, 1, 1, position + 1, dtype=self.dtype, device=self.device)
                    hidden.append(self.decode(ids[:, position], at, mask, cache))
                difference = probe_difference(expected, self.logits(torch.cat(hidden)))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"embedded sampler: expected a model whose attention can be exchanged; got "
                f"{type(model).__name__} ({type(error).__name__}: {error}). Sample it with vLLM."
            ) from error
        if difference > PROBE_TOLERANCE[self.dtype != torch.float32]:
            raise UnsupportedError(
                f"embedded sampler: expected the logprobs of {type(model).__name__} itself; got "
                f"others, by {difference:.3g}. Sample it with vLLM."
            )

    @property
    def vocab_size(self) -> int:
        """Number of logits."""
        return self.language_model.vocab_size

    def prepare(self, weights: AdapterWeights) -> VersionTensors:
        """Make a version's tensors ready for `use`."""
        with torch.inference_mode():
            return VersionTensors(self.layers, weights)

    def use(self, version: VersionTensors | None) -> None:
        """Put a version's weights in place; None is the bare base model."""
        if version is self._current:
            return
        for path, layer in self.layers.items():
            layer.merged = version.merged.get(path) if version else None
            layer.low_rank = version.low_rank.get(path) if version else None
        self._current = version

    def read(self, token_N: Tensor, chunk: Chunk) -> Tensor:
        """Hidden states [N, H] of a chunk's tokens, int64; its prompts get their keys."""
        _plan.chunk = chunk
        try:
            hidden_1NH = self._run(token_N[None], chunk.position_N[None], chunk)
        finally:
            _plan.chunk = None
        chunk.finish()
        return hidden_1NH[0]

    def decode(self, token_R: Tensor, position_R: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Hidden states [R, H] after one token more on each row of `cache`."""
        _plan.decode_mask = mask
        return self._run(token_R[:, None], position_R[:, None], cache)[:, 0]

    def _run(self, input_ids: Tensor, position_ids: Tensor, cache: Any) -> Tensor:
        return self.language_model.hidden_states(
            input_ids, position_ids=position_ids, past_key_values=cache, use_cache=True
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., H]."""
        return self.language_model.head(hidden)
