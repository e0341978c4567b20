"""The dimensions of a model: what its weights, its adapters and its arithmetic are counted from."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from tinker_rl.errors import UnsupportedError, choices
from tinker_rl.lineup import model_path, unavailable

__all__ = ["ARCHITECTURES", "Architecture", "Shape", "get_architecture", "read_config"]

Shape: TypeAlias = tuple[int, int]
"""Inputs and outputs of a linear layer."""

_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe")


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """The dimensions of a decoder built as Llama and Qwen3 are.

    Each block has four projections of attention and a gated MLP of three linear layers, or, in a
    mixture, a router and experts of three linear layers each. Sizes are numbers of features.
    """

    model_type: str
    """The name that transformers has for this kind of model, such as `qwen3`."""
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    """Of the MLP of blocks without experts."""
    vocab_size: int
    """Rows of the embedding; a tokenizer may use fewer."""
    tied_embeddings: bool
    """Whether embedding and unembedding are one tensor."""
    num_moe_layers: int = 0
    """Blocks with experts in place of an MLP."""
    num_experts: int = 0
    experts_per_token: int = 0
    moe_intermediate_size: int = 0
    """Of one expert."""
    qk_norm: bool = False
    """Whether queries and keys are normalised, each head by itself."""
    qkv_bias: bool = False
    output_bias: bool = False
    """Of attention's output projection."""
    mlp_bias: bool = False

    @classmethod
    def from_config(cls, config: Any) -> Architecture:
        """Read the dimensions off a transformers configuration.

        Raises:
            UnsupportedError: if models of that type are built in another way.
        """
        config = config.get_text_config()
        kind: str = config.model_type
        if kind not in _MODEL_TYPES:
            raise UnsupportedError(
                f"Architecture.from_config: expected a model type that it can count; got {kind!r}."
                f"{choices(kind, _MODEL_TYPES)}"
            )
        moe_layers = _moe_layers(config) if kind == "qwen3_moe" else 0
        attention_bias = bool(getattr(config, "attention_bias", False))
        return cls(
            model_type=kind,
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads or config.num_attention_heads,
            head_dim=getattr(config, "head_dim", None)
            or config.hidden_size // config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            vocab_size=config.vocab_size,
            tied_embeddings=bool(config.tie_word_embeddings),
            num_moe_layers=moe_layers,
            num_experts=config.num_experts if moe_layers else 0,
            experts_per_token=config.num_experts_per_tok if moe_layers else 0,
            moe_intermediate_size=config.moe_intermediate_size if moe_layers else 0,
            qk_norm=kind.startswith("qwen3"),
            qkv_bias=kind == "qwen2" or (kind != "mistral" and attention_bias),
            output_bias=kind not in ("qwen2", "mistral") and attention_bias,
            mlp_bias=kind == "llama" and bool(getattr(config, "mlp_bias", False)),
        )

    @property
    def attention(self) -> tuple[Shape, ...]:
        """Query, key, value and output projection of one block."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        hidden = self.hidden_size
        return (hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)

    @property
    def mlp(self) -> tuple[Shape, ...]:
        """Gate, up and down projection of one block without experts."""
        return _gated(self.hidden_size, self.intermediate_size)

    @property
    def expert(self) -> tuple[Shape, ...]:
        """Gate, up and down projection of one expert."""
        return _gated(self.hidden_size, self.moe_intermediate_size)

    @property
    def num_dense_layers(self) -> int:
        """Blocks with an MLP of their own."""
        return self.num_layers - self.num_moe_layers

    @property
    def linear_weights(self) -> int:
        """Weights of linear layers that act on one token, without embedding and unembedding.

        Of a mixture: the router and the experts that a token is sent to. A forward pass does
        2 * (linear_weights + unembed_weights) floating-point operations a token, attention between
        tokens left out.
        """
        return self._body(self.experts_per_token)

    @property
    def unembed_weights(self) -> int:
        """Weights of the unembedding."""
        return self.vocab_size * self.hidden_size

    @property
    def total_parameters(self) -> int:
        """All parameters, a tied unembedding counted once."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        hidden = self.hidden_size
        block = (
            2 * hidden  # two norms
            + 2 * self.head_dim * self.qk_norm
            + (queries + 2 * keys) * self.qkv_bias
            + hidden * self.output_bias
        )
        mlp_biases = (2 * self.intermediate_size + hidden) * self.mlp_bias
        return (
            self._body(self.num_experts)
            + self.num_layers * block
            + self.num_dense_layers * mlp_biases
            + hidden  # the last norm
            + self.unembed_weights * (1 if self.tied_embeddings else 2)
        )

    def _body(self, experts: int) -> int:
        router = self.hidden_size * self.num_experts
        return (
            self.num_layers * _weights(self.attention)
            + self.num_dense_layers * _weights(self.mlp)
            + self.num_moe_layers * (router + experts * _weights(self.expert))
        )


def _gated(hidden: int, inner: int) -> tuple[Shape, ...]:
    return (hidden, inner), (hidden, inner), (inner, hidden)


def _weights(shapes: tuple[Shape, ...]) -> int:
    return sum(inputs * outputs for inputs, outputs in shapes)


def _moe_layers(config: Any) -> int:
    """How many blocks have experts: every `decoder_sparse_step`-th that is not named as dense."""
    return sum(
        layer not in config.mlp_only_layers
        and config.num_experts > 0
        and (layer + 1) % config.decoder_sparse_step == 0
        for layer in range(config.num_hidden_layers)
    )


def _qwen3(
    hidden: int, layers: int, heads: int, intermediate: int, *, tied: bool = False
) -> Architecture:
    return Architecture(
        model_type="qwen3",
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=8,
        head_dim=128,
        intermediate_size=intermediate,
        vocab_size=151936,
        tied_embeddings=tied,
        qk_norm=True,
    )


def _qwen3_moe(
    hidden: int, layers: int, heads: int, intermediate: int, expert: int
) -> Architecture:
    return msgspec.structs.replace(
        _qwen3(hidden, layers, heads, intermediate),
        model_type="qwen3_moe",
        num_kv_heads=4,
        num_moe_layers=layers,
        num_experts=128,
        experts_per_token=8,
        moe_intermediate_size=expert,
    )


def _llama3(
    hidden: int, layers: int, heads: int, intermediate: int, *, tied: bool = False
) -> Architecture:
    return Architecture(
        model_type="llama",
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=8,
        head_dim=64 if hidden == 2048 else 128,
        intermediate_size=intermediate,
        vocab_size=128256,
        tied_embeddings=tied,
    )


_TINY = Architecture(
    model_type="qwen3",
    hidden_size=128,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    intermediate_size=320,
    vocab_size=1024,
    tied_embeddings=True,
    qk_norm=True,
)
_QWEN3_8B = _qwen3(4096, 36, 32, 12288)
_QWEN3_30B = _qwen3_moe(2048, 48, 32, 6144, 768)
_LLAMA_8B = _llama3(4096, 32, 32, 14336)
_LLAMA_70B = _llama3(8192, 80, 64, 28672)

ARCHITECTURES: dict[str, Architecture] = {
    "tiny": _TINY,
    "Qwen/Qwen3-0.6B": _qwen3(1024, 28, 16, 3072, tied=True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 28, 16, 6144, tied=True),
    "Qwen/Qwen3-4B-Instruct-2507": _qwen3(2560, 36, 32, 9728, tied=True),
    "Qwen/Qwen3-8B": _QWEN3_8B,
    "Qwen/Qwen3-8B-Base": _QWEN3_8B,
    "Qwen/Qwen3-32B": _qwen3(5120, 64, 64, 25600),
    "Qwen/Qwen3-30B-A3B": _QWEN3_30B,
    "Qwen/Qwen3-30B-A3B-Base": _QWEN3_30B,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": _QWEN3_30B,
    "Qwen/Qwen3-235B-A22B-Instruct-2507": _qwen3_moe(4096, 94, 64, 12288, 1536),
    "meta-llama/Llama-3.2-1B": _llama3(2048, 16, 32, 8192, tied=True),
    "meta-llama/Llama-3.2-3B": _llama3(3072, 28, 24, 8192, tied=True),
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
    "meta-llama/Llama-3.1-70B": _LLAMA_70B,
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA_70B,
}
"""The models of the lineup, so that they can be counted where they cannot be had.

Source: the `config.json` of each on the Hugging Face hub.
"""


def get_architecture(model_name: str) -> Architecture:
    """The dimensions of a model: by heart for the lineup, else read off its configuration.

    Args:
        model_name: A name of the lineup, a hub name, or a folder with a `config.json`.
    Raises:
        UnknownNameError: if its configuration cannot be had; the message says why.
        UnsupportedError: if models of its type are built in another way.
    """
    return ARCHITECTURES.get(model_name) or Architecture.from_config(read_config(model_name))


def read_config(model_name: str) -> Any:
    """The transformers configuration of a hub name or of a folder. Loads transformers.

    Raises:
        UnknownNameError: if it cannot be had; the message says why.
    """
    path = model_path(model_name)
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # each library that reads a part of it has errors of its own
        raise unavailable(model_name, str(error).split("\n")[0]) from error
