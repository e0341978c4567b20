"""The way in: models, training clients, sampling clients."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from tinker_rl.clients.factory import close_backend, open_backend
from tinker_rl.clients.refusals import (
    refuse_optimizer,
    refuse_stability_info,
    refuse_token,
)
from tinker_rl.clients.rest_client import RestClient
from tinker_rl.clients.sampling_client import SamplingClient
from tinker_rl.clients.training_client import TrainingClient
from tinker_rl.futures import APIFuture
from tinker_rl.requests import (
    CopyWeights,
    CreateModel,
    CreateModelFromState,
    CreateSampler,
    GetServerCapabilities,
)
from tinker_rl.types import GetInfoResponse, GetServerCapabilitiesResponse, LoraConfig

if TYPE_CHECKING:
    from tinker_rl.engine.local import EngineOptions

__all__ = ["ServiceClient"]


class ServiceClient:
    """Opens an engine and makes clients of it.

    Without an address the engine runs in this process, in a thread of its own; it ends with
    `close`, with the `with` block, or with the interpreter.

    Args:
        user_metadata: Kept with every training run that this client creates.
        base_url: Address of a server; the default is TINKER_BASE_URL, then this process.
        engine_options: Options of an engine in this process.
    """

    def __init__(
        self,
        user_metadata: dict[str, str] | None = None,
        project_id: str | None = None,
        *,
        display_name: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        engine_options: EngineOptions | None = None,
    ) -> None:
        self._user_metadata = user_metadata
        self._backend = open_backend(base_url, engine_options)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close("success" if exc_type is None else "errored")

    def close(
        self,
        status: Literal["success", "errored", "interrupted"] = "success",
        detail: str | None = None,
    ) -> None:
        """Leave the engine; it ends with its last ServiceClient. Again, it does nothing."""
        if not self._closed:
            self._closed = True
            close_backend(self._backend)

    # ---------------------------------------------------------------------------------- models

    def get_server_capabilities(self) -> GetServerCapabilitiesResponse:
        """The base models, and whether they can be had here."""
        return self._backend.submit(GetServerCapabilities()).result()

    async def get_server_capabilities_async(self) -> GetServerCapabilitiesResponse:
        """`get_server_capabilities`."""
        return await self._backend.submit(GetServerCapabilities())

    # -------------------------------------------------------------------------------- training

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: dict[str, str] | None = None,
        optimizer: object = None,
        *,
        lora_alpha: float = 32.0,
    ) -> TrainingClient:
        """A new model: a LoRA adapter on `base_model`, which is loaded if it is not yet.

        Args:
            base_model: A name of the lineup, a hub name, or a local folder.
            rank: Rank of the adapter; its product is scaled by lora_alpha / rank.
            seed: Seed of the initial weights.
            optimizer: None or the SDK's AdamW configuration.
            lora_alpha: Not in the SDK, whose service has 32.
        Raises:
            UnknownNameError: if the base model cannot be had here.
        """
        refuse_optimizer("create_lora_training_client", optimizer)
        config = LoraConfig(
            rank=rank,
            seed=seed,
            train_mlp=train_mlp,
            train_attn=train_attn,
            train_unembed=train_unembed,
            lora_alpha=lora_alpha,
        )
        return self._create_lora(base_model, config, user_metadata).result()

    async def create_lora_training_client_async(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: dict[str, str] | None = None,
        optimizer: object = None,
        *,
        lora_alpha: float = 32.0,
    ) -> TrainingClient:
        """`create_lora_training_client`; awaiting the client gives it again."""
        refuse_optimizer("create_lora_training_client", optimizer)
        config = LoraConfig(
            rank=rank,
            seed=seed,
            train_mlp=train_mlp,
            train_attn=train_attn,
            train_unembed=train_unembed,
            lora_alpha=lora_alpha,
        )
        return await self._create_lora(base_model, config, user_metadata)

    def _create_lora(
        self, base_model: str, config: LoraConfig, user_metadata: dict[str, str] | None
    ) -> APIFuture[TrainingClient]:
        request = CreateModel(
            base_model=base_model,
            lora_config=config,
            user_metadata=self._metadata(user_metadata),
        )
        return self._backend.submit(request).map(self._training_client)

    def _metadata(self, user_metadata: dict[str, str] | None) -> dict[str, str] | None:
        return {**(self._user_metadata or {}), **(user_metadata or {})} or None

    def _training_client(self, info: GetInfoResponse) -> TrainingClient:
        return TrainingClient(self._backend, info)

    def create_training_client_from_state(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: dict[str, str] | None = None,
        weights_access_token: str | None = None,
        optimizer: object = None,
    ) -> TrainingClient:
        """A new model with the weights of a checkpoint and a fresh optimiser."""
        refuse_token("create_training_client_from_state", weights_access_token)
        refuse_optimizer("create_training_client_from_state", optimizer)
        return self._from_state(path, base_model, user_metadata, optimizer=False).result()

    async def create_training_client_from_state_async(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: dict[str, str] | None = None,
        weights_access_token: str | None = None,
        optimizer: object = None,
    ) -> TrainingClient:
        """`create_training_client_from_state`."""
        refuse_token("create_training_client_from_state", weights_access_token)
        refuse_optimizer("create_training_client_from_state", optimizer)
        return await self._from_state(path, base_model, user_metadata, optimizer=False)

    def create_training_client_from_state_with_optimizer(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: dict[str, str] | None = None,
        weights_access_token: str | None = None,
    ) -> TrainingClient:
        """A new model that goes on where a checkpoint was saved, bit for bit on one device."""
        refuse_token("create_training_client_from_state_with_optimizer", weights_access_token)
        return self._from_state(path, base_model, user_metadata, optimizer=True).result()

    async def create_training_client_from_state_with_optimizer_async(
        self,
        path: str,
        base_model: str | None = None,
        user_metadata: dict[str, str] | None = None,
        weights_access_token: str | None = None,
    ) -> TrainingClient:
        """`create_training_client_from_state_with_optimizer`."""
        refuse_token("create_training_client_from_state_with_optimizer", weights_access_token)
        return await self._from_state(path, base_model, user_metadata, optimizer=True)

    def _from_state(
        self,
        path: str,
        base_model: str | None,
        user_metadata: dict[str, str] | None,
        *,
        optimizer: bool,
    ) -> APIFuture[TrainingClient]:
        request = CreateModelFromState(
            path=path,
            optimizer=optimizer,
            base_model=base_model,
            user_metadata=self._metadata(user_metadata),
        )
        return self._backend.submit(request).map(self._training_client)

    # -------------------------------------------------------------------------------- sampling

    def create_sampling_client(
        self,
        model_path: str | None = None,
        base_model: str | None = None,
        retry_config: object = None,
        record_stability_info: bool = False,
    ) -> SamplingClient:
        """A client that samples from a checkpoint (`tinker://...`) or from a base model."""
        refuse_stability_info(record_stability_info)
        return self._sampler(model_path, base_model).result()

    async def create_sampling_client_async(
        self,
        model_path: str | None = None,
        base_model: str | None = None,
        retry_config: object = None,
        record_stability_info: bool = False,
    ) -> SamplingClient:
        """`create_sampling_client`; awaiting the client gives it again."""
        refuse_stability_info(record_stability_info)
        return await self._sampler(model_path, base_model)

    def _sampler(self, model_path: str | None, base_model: str | None) -> APIFuture[SamplingClient]:
        request = CreateSampler(model_path=model_path, base_model=base_model)
        return self._backend.submit(request).map(lambda info: SamplingClient(self._backend, info))

    # ----------------------------------------------------------------------------- checkpoints

    def create_rest_client(self) -> RestClient:
        """A client that lists and manages runs and checkpoints."""
        return RestClient(self._backend)

    def copy_weights(
        self,
        path: str,
        *,
        ttl_seconds: int | None = None,
        weights_access_token: str | None = None,
    ) -> APIFuture[str]:
        """Copy a checkpoint into a run of its own; gives the new path."""
        refuse_token("copy_weights", weights_access_token)
        return self._backend.submit(CopyWeights(path=path, ttl_seconds=ttl_seconds))
