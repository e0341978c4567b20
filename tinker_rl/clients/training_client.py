"""Trains one model: a LoRA adapter on a base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tinker_rl.backend import Backend
from tinker_rl.clients.handle import ClientHandle
from tinker_rl.clients.refusals import refuse_stability_info, refuse_token
from tinker_rl.clients.sampling_client import SamplingClient
from tinker_rl.errors import UnsupportedError
from tinker_rl.futures import APIFuture
from tinker_rl.losses import CustomLoss
from tinker_rl.requests import (
    CreateSampler,
    ForwardBackward,
    GetInfo,
    LoadState,
    OptimStep,
    PublishWeights,
    SamplerInfo,
    SaveState,
    SaveWeightsForSampler,
)
from tinker_rl.types import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    GetInfoResponse,
    LoadWeightsResponse,
    OptimStepResponse,
    SamplingClientKind,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)

__all__ = ["TrainingClient"]


class TrainingClient(ClientHandle):
    """Requests to one model. They are carried out in the order of the calls, and go on to their
    end whether or not anybody waits. Made by `ServiceClient`.

    Every method queues its request and returns a future. The `_async` methods are awaited twice:
    the first await gives the future, once the request has its place, the second the result.
    """

    def __init__(self, backend: Backend, info: GetInfoResponse) -> None:
        super().__init__(backend)
        self._info = info
        self.model_id = info.model_id

    # --------------------------------------------------------------------------------- training

    def forward(
        self,
        data: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> APIFuture[ForwardBackwardOutput]:
        """Loss and per-token logprobs of `data`; no gradient."""
        return self._forward_backward(data, loss_fn, loss_fn_config, forward_only=True)

    async def forward_async(
        self,
        data: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> APIFuture[ForwardBackwardOutput]:
        """`forward`, awaited twice."""
        return self.forward(data, loss_fn, loss_fn_config)

    def forward_backward(
        self,
        data: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> APIFuture[ForwardBackwardOutput]:
        """Loss of `data`, a sum over tokens, and its gradient, added up until `optim_step`.

        Args:
            data: At least one datum; each has `target_tokens`, shape [T] for T input tokens or
                [T, K] for several targets each, and what the loss needs besides, in that shape.
                What several datums begin with is computed once.
            loss_fn: `cross_entropy`, `importance_sampling`, `ppo`, `cispo`, `dro`, `gspo`, or a
                name that `register_loss` was given.
            loss_fn_config: Options of the loss, such as `clip_low_threshold` of `ppo`.
        Returns:
            A future; `loss_fn_outputs[i]["logprobs"]` are float32 in the shape of the targets. A
            request that fails leaves no part of its gradient behind.
        """
        return self._forward_backward(data, loss_fn, loss_fn_config, forward_only=False)

    async def forward_backward_async(
        self,
        data: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, float | str] | None = None,
    ) -> APIFuture[ForwardBackwardOutput]:
        """`forward_backward`, awaited twice."""
        return self.forward_backward(data, loss_fn, loss_fn_config)

    def _forward_backward(
        self,
        data: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, float | str] | None,
        *,
        forward_only: bool,
    ) -> APIFuture[ForwardBackwardOutput]:
        return self._backend.submit(
            ForwardBackward(
                model_id=self.model_id,
                data=list(data),
                loss_fn=loss_fn,
                loss_fn_config=dict(loss_fn_config) if loss_fn_config else None,
                forward_only=forward_only,
            )
        )

    def forward_backward_custom(
        self,
        data: Sequence[Datum],
        loss_fn: CustomLoss,
        *,
        loss_type_input: Literal["logprobs"] | None = None,
    ) -> APIFuture[ForwardBackwardOutput]:
        """`forward_backward` with a loss of the caller's own.

        Args:
            loss_fn: `fn(data, logprobs)` -> (scalar loss, metrics): any differentiable function of
                the learner's logprobs, one float32 tensor a datum. It runs in the engine's thread.
        Returns:
            A future; the metrics have `loss:sum` and those that `loss_fn` returned.
        """
        if loss_type_input not in (None, "logprobs"):
            raise UnsupportedError(
                f"forward_backward_custom: expected loss_type_input 'logprobs'; got "
                f"{loss_type_input!r}. Leave it out: the loss always receives logprobs."
            )
        loss_id = self._backend.add_loss(loss_fn)
        future = self._forward_backward(data, "custom", {"loss_id": loss_id}, forward_only=False)
        future.future().add_done_callback(lambda _: self._backend.remove_loss(loss_id))
        return future

    async def forward_backward_custom_async(
        self,
        data: Sequence[Datum],
        loss_fn: CustomLoss,
        *,
        loss_type_input: Literal["logprobs"] | None = None,
    ) -> APIFuture[ForwardBackwardOutput]:
        """`forward_backward_custom`, awaited twice."""
        return self.forward_backward_custom(data, loss_fn, loss_type_input=loss_type_input)

    def optim_step(
        self,
        optim_params: AdamParams | None = None,
        *,
        adam_params: AdamParams | None = None,
    ) -> APIFuture[OptimStepResponse]:
        """One AdamW step on the gradients since the last one; they are cleared.

        The metrics have the gradient's norm before clipping, and the learning rate.
        """
        params = optim_params or adam_params or AdamParams()
        return self._backend.submit(OptimStep(model_id=self.model_id, adam_params=params))

    async def optim_step_async(
        self,
        optim_params: AdamParams | None = None,
        *,
        adam_params: AdamParams | None = None,
    ) -> APIFuture[OptimStepResponse]:
        """`optim_step`, awaited twice."""
        return self.optim_step(optim_params, adam_params=adam_params)

    # ------------------------------------------------------------------------------ checkpoints

    def save_state(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> APIFuture[SaveWeightsResponse]:
        """Write weights, optimiser and gradients not yet used by a step; gives the path."""
        return self._backend.submit(
            SaveState(
                model_id=self.model_id,
                name=name,
                ttl_seconds=ttl_seconds,
                overwrite=overwrite,
                user_metadata=user_metadata,
            )
        )

    async def save_state_async(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> APIFuture[SaveWeightsResponse]:
        """`save_state`, awaited twice."""
        return self.save_state(name, ttl_seconds, overwrite, user_metadata)

    def load_state(
        self, path: str, weights_access_token: str | None = None
    ) -> APIFuture[LoadWeightsResponse]:
        """Take over the weights of a checkpoint; the optimiser starts afresh."""
        refuse_token("load_state", weights_access_token)
        return self._load(path, optimizer=False)

    async def load_state_async(
        self, path: str, weights_access_token: str | None = None
    ) -> APIFuture[LoadWeightsResponse]:
        """`load_state`, awaited twice."""
        return self.load_state(path, weights_access_token)

    def load_state_with_optimizer(
        self, path: str, weights_access_token: str | None = None
    ) -> APIFuture[LoadWeightsResponse]:
        """Take over weights, optimiser and unused gradients: training goes on as if unbroken."""
        refuse_token("load_state_with_optimizer", weights_access_token)
        return self._load(path, optimizer=True)

    async def load_state_with_optimizer_async(
        self, path: str, weights_access_token: str | None = None
    ) -> APIFuture[LoadWeightsResponse]:
        """`load_state_with_optimizer`, awaited twice."""
        return self.load_state_with_optimizer(path, weights_access_token)

    def _load(self, path: str, *, optimizer: bool) -> APIFuture[LoadWeightsResponse]:
        return self._backend.submit(
            LoadState(model_id=self.model_id, path=path, optimizer=optimizer)
        )

    def save_weights_for_sampler(
        self,
        name: str,
        ttl_seconds: int | None = None,
        user_metadata: dict[str, str] | None = None,
    ) -> APIFuture[SaveWeightsForSamplerResponse]:
        """Write a peft adapter folder that samplers load; gives the path."""
        return self._backend.submit(
            SaveWeightsForSampler(
                model_id=self.model_id,
                name=name,
                ttl_seconds=ttl_seconds,
                user_metadata=user_metadata,
            )
        )

    async def save_weights_for_sampler_async(
        self,
        name: str,
        ttl_seconds: int | None = None,
        user_metadata: dict[str, str] | None = None,
    ) -> APIFuture[SaveWeightsForSamplerResponse]:
        """`save_weights_for_sampler`, awaited twice."""
        return self.save_weights_for_sampler(name, ttl_seconds, user_metadata)

    # --------------------------------------------------------------------------------- sampling

    def save_weights_and_get_sampling_client(
        self,
        name: str | None = None,
        retry_config: object = None,
        record_stability_info: bool = False,
        kind: SamplingClientKind = "snapshot",
    ) -> SamplingClient:
        """A client that samples from the present weights.

        Args:
            name: Also write a checkpoint of that name; without one nothing is written.
            kind: `snapshot`: the client's weights never change. `inflight`: they follow those that
                later calls with `inflight` publish.
        """
        return self._publish(name, record_stability_info, kind).result()

    async def save_weights_and_get_sampling_client_async(
        self,
        name: str | None = None,
        retry_config: object = None,
        record_stability_info: bool = False,
        kind: SamplingClientKind = "snapshot",
    ) -> SamplingClient:
        """`save_weights_and_get_sampling_client`; awaiting the client gives it again."""
        if name is None:
            return await self._publish(name, record_stability_info, kind)
        refuse_stability_info(record_stability_info)
        saved = await self.save_weights_for_sampler(name)
        return await self.create_sampling_client_async(saved.path)

    def _publish(
        self, name: str | None, record_stability_info: bool, kind: SamplingClientKind
    ) -> APIFuture[SamplingClient]:
        refuse_stability_info(record_stability_info)
        if name is not None:
            path = self.save_weights_for_sampler(name).result().path
            request = self._backend.submit(CreateSampler(model_path=path))
        else:
            request = self._backend.submit(PublishWeights(model_id=self.model_id, kind=kind))
        return request.map(self._sampling_client)

    def _sampling_client(self, info: SamplerInfo) -> SamplingClient:
        return SamplingClient(self._backend, info)

    def create_sampling_client(
        self,
        model_path: str,
        retry_config: object = None,
        record_stability_info: bool = False,
    ) -> SamplingClient:
        """A client that samples from a saved checkpoint."""
        refuse_stability_info(record_stability_info)
        request = self._backend.submit(CreateSampler(model_path=model_path))
        return request.map(self._sampling_client).result()

    async def create_sampling_client_async(
        self,
        model_path: str,
        retry_config: object = None,
        record_stability_info: bool = False,
    ) -> SamplingClient:
        """`create_sampling_client`."""
        refuse_stability_info(record_stability_info)
        request = self._backend.submit(CreateSampler(model_path=model_path))
        return await request.map(self._sampling_client)

    # ------------------------------------------------------------------------------ description

    def get_info(self) -> GetInfoResponse:
        """Base model, rank and id."""
        return self._backend.submit(GetInfo(model_id=self.model_id)).result()

    async def get_info_async(self) -> GetInfoResponse:
        """`get_info`."""
        return await self._backend.submit(GetInfo(model_id=self.model_id))

    def get_tokenizer(self) -> Any:
        """The base model's tokenizer, of transformers."""
        from tinker_rl.tokenizers import get_tokenizer

        assert self._info.model_data.tokenizer_id is not None
        return get_tokenizer(self._info.model_data.tokenizer_id)
