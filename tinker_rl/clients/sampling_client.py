"""Samples from one version of a model."""

from __future__ import annotations

import weakref
from typing import Any

from tinker_rl.backend import Backend
from tinker_rl.clients.handle import ClientHandle
from tinker_rl.errors import RequestError, UnsupportedError
from tinker_rl.futures import APIFuture
from tinker_rl.requests import ReleaseSampler, Sample, SamplerInfo, WeightSync
from tinker_rl.types import (
    LogprobList,
    ModelInput,
    SampleResponse,
    SamplingParams,
    TensorData,
)

__all__ = ["SamplingClient"]


class SamplingClient(ClientHandle):
    """Samples from a base model or a snapshot of trained weights. Made by other clients.

    The weights of a snapshot never change, and are freed when the last client of them is gone.
    """

    def __init__(self, backend: Backend, info: SamplerInfo) -> None:
        super().__init__(backend)
        self._info = info
        release = weakref.finalize(self, backend.submit, ReleaseSampler(sampler_id=info.sampler_id))
        release.atexit = False

    @property
    def weight_sync(self) -> WeightSync | None:
        """How it was proved that the sampler has these weights; None for a base model."""
        return self._info.weight_sync

    def sample(
        self,
        prompt: ModelInput,
        num_samples: int,
        sampling_params: SamplingParams,
        include_prompt_logprobs: bool = False,
        topk_prompt_logprobs: int = 0,
        topk_sample_logprobs: int = 0,
        target_prompt_logprobs: TensorData | None = None,
        prompt_alt_tokens_k: int = 0,
        prompt_logprobs_last_n: int | None = None,
    ) -> APIFuture[SampleResponse]:
        """Complete a prompt `num_samples` times; the prompt is read once.

        Args:
            prompt: At least one token; prompt and answer share the model's context.
            include_prompt_logprobs: Also give the untempered logprob of each prompt token.
            topk_prompt_logprobs: Alternatives to report for each prompt token.
            topk_sample_logprobs: Alternatives to report for each sampled token.
            prompt_logprobs_last_n: Score only so many tokens at the prompt's end.
        Returns:
            A future. Its errors are RequestErrors for values out of range, PromptTooLongError for
            a prompt without room for an answer. Cancelling its await cancels the sampling.
        """
        if not isinstance(prompt, ModelInput):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RequestError(
                f"sample: expected a ModelInput as prompt; got {type(prompt).__name__}. Wrap token "
                "ids with ModelInput.from_ints."
            )
        if not isinstance(sampling_params, SamplingParams):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RequestError(
                f"sample: expected SamplingParams; got {type(sampling_params).__name__}. Make them "
                "with SamplingParams(max_tokens=...)."
            )
        if target_prompt_logprobs is not None or prompt_alt_tokens_k:
            raise UnsupportedError(
                "sample: target_prompt_logprobs and prompt_alt_tokens_k are not supported here. "
                "Use topk_prompt_logprobs, or TrainingClient.forward for given targets."
            )
        return self._backend.submit(
            Sample(
                sampler_id=self._info.sampler_id,
                prompt=prompt,
                num_samples=num_samples,
                sampling_params=sampling_params,
                prompt_logprobs=include_prompt_logprobs,
                topk_prompt_logprobs=topk_prompt_logprobs,
                topk_sample_logprobs=topk_sample_logprobs,
                prompt_logprobs_last_n=prompt_logprobs_last_n,
            )
        )

    async def sample_async(
        self,
        prompt: ModelInput,
        num_samples: int,
        sampling_params: SamplingParams,
        include_prompt_logprobs: bool = False,
        topk_prompt_logprobs: int = 0,
        topk_sample_logprobs: int = 0,
        target_prompt_logprobs: TensorData | None = None,
        prompt_alt_tokens_k: int = 0,
        prompt_logprobs_last_n: int | None = None,
    ) -> SampleResponse:
        """The result of `sample`, as in the SDK; awaiting it once more gives it again."""
        return await self.sample(
            prompt,
            num_samples,
            sampling_params,
            include_prompt_logprobs,
            topk_prompt_logprobs,
            topk_sample_logprobs,
            target_prompt_logprobs,
            prompt_alt_tokens_k,
            prompt_logprobs_last_n,
        )

    def interrupt(self, future: APIFuture[SampleResponse]) -> None:
        """End a sample now: `future` soon gives what it has so far, stop reason `interrupted`.

        Its tokens and logprobs are the first of those that the whole request would have given. A
        sequence of which nothing was sampled yet is empty; one that is complete, and a future that
        is done, stay as they are. Returns at once, from any thread; again, it does nothing.

        Args:
            future: What `sample` gave.
        Raises:
            RequestError: if it is the future of something else.
            UnsupportedError: if the engine cannot interrupt.
        """
        self._backend.interrupt(future)

    def compute_logprobs(
        self, prompt: ModelInput, prompt_logprobs_last_n: int | None = None
    ) -> APIFuture[LogprobList]:
        """Untempered natural logprob of each token of `prompt`, None for the first."""
        scored = self.sample(
            prompt,
            1,
            SamplingParams(max_tokens=1),
            include_prompt_logprobs=True,
            prompt_logprobs_last_n=prompt_logprobs_last_n,
        )
        return scored.map(_logprobs)

    async def compute_logprobs_async(
        self, prompt: ModelInput, prompt_logprobs_last_n: int | None = None
    ) -> LogprobList:
        """The result of `compute_logprobs`."""
        return await self.compute_logprobs(prompt, prompt_logprobs_last_n)

    def get_tokenizer(self) -> Any:
        """The base model's tokenizer, of transformers."""
        from tinker_rl.tokenizers import get_tokenizer

        return get_tokenizer(self._info.base_model)

    def get_base_model(self) -> str:
        """Name of the base model."""
        return self._info.base_model

    async def get_base_model_async(self) -> str:
        """Name of the base model."""
        return self._info.base_model

    @property
    def model_path(self) -> str | None:
        """Path of the checkpoint that is sampled from, if it is one."""
        return self._info.model_path


def _logprobs(response: SampleResponse) -> LogprobList:
    assert response.prompt_logprobs_np is not None
    return LogprobList.from_numpy(response.prompt_logprobs_np)
