"""A penalty on the distance to a frozen reference policy, put into the advantages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import msgspec
import numpy as np
import numpy.typing as npt

from tinker_rl.errors import PromptTooLongError, ShapeError
from tinker_rl.policies import FrozenPolicy
from tinker_rl.rl.data import TrainingSequence
from tinker_rl.types import Datum, EncodedTextChunk, ModelInput, TensorData

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient

__all__ = ["apply_kl_penalty", "discounted_future_sum", "reference_logprobs"]

Array: TypeAlias = npt.NDArray[Any]


async def reference_logprobs(
    reference: FrozenPolicy | SamplingClient, sequences: Sequence[TrainingSequence]
) -> list[Array]:
    """What a frozen policy makes of the tokens of each sequence.

    One `compute_logprobs` for each, all at once; a prefix that they share is computed once where
    the sampler keeps prefixes. Cancelled, the sampler drops those not yet scored.

    Args:
        reference: Whose weights score; temperature and token limit of a policy play no part.
        sequences: Inputs and targets; advantages are not looked at.
    Returns:
        Natural log-probabilities of the target tokens of each sequence. float32, shape [T] each.
        Where a sequence fills the model's context to the last place, no sampler scores its last
        token: it has the sampler's own logprob, which costs no penalty.
    Raises:
        ExceptionGroup: of what scoring raised.
    """
    client = reference.sampling_client if isinstance(reference, FrozenPolicy) else reference
    scored: list[Array] = [np.empty(0, np.float32)] * len(sequences)

    async def score(place: int) -> None:
        scored[place] = await _scored(client, sequences[place])

    async with anyio.create_task_group() as tasks:
        for place in range(len(sequences)):
            tasks.start_soon(score, place)
    return scored


async def _scored(client: SamplingClient, sequence: TrainingSequence) -> Array:
    inputs = sequence.datum.model_input
    last_target = int(sequence.datum.loss_fn_inputs["target_tokens"].to_numpy()[-1])
    whole = ModelInput((*inputs.chunks, EncodedTextChunk((last_target,))))
    try:
        logprobs = await client.compute_logprobs_async(whole)
    except PromptTooLongError:
        logprobs = await client.compute_logprobs_async(inputs)
        logprobs = [*logprobs, float(sequence.sampler_logprobs_T[-1])]
    return np.array(logprobs[1:], dtype=np.float32)


def apply_kl_penalty(
    groups_P: Sequence[Sequence[TrainingSequence]],
    reference_logprobs_P: Sequence[Sequence[Array]],
    coef: float,
    discount: float = 0.0,
) -> tuple[list[list[TrainingSequence]], dict[str, float]]:
    """Reward each action token for being likelier to the reference than the batch's tokens are.

    With d = log q - log p_ref of sampler and reference at an action token, and its mean D over the
    batch, the token earns k = coef * (D - d); over the batch these sum to 0. Its advantage grows by
    k, or with a discount g by the sum of g^j * k over the tokens j places on in its sequence.

    Args:
        groups_P: Training sequences of each group. They are not changed.
        reference_logprobs_P: Of their target tokens, as `reference_logprobs` gives them. Shape [T].
        coef: Weight of the penalty, in reward units a nat.
        discount: g, from 0 (each token answers for itself alone) to 1, for each place.
    Returns:
        The sequences with new advantages, and `kl_policy_base`: D, in nats, which estimates
        KL(q || p_ref); no metric where there is no action token.
    Raises:
        ShapeError: if the reference does not match the targets one to one, or is not finite.
    Source:
        `incorporate_kl_penalty` of the Tinker cookbook.
    """
    sequences = [sequence for group in groups_P for sequence in group]
    references = [logprobs for group in reference_logprobs_P for logprobs in group]
    if [len(group) for group in groups_P] != [len(group) for group in reference_logprobs_P]:
        raise ShapeError(
            f"apply_kl_penalty: expected an array for each of {len(sequences)} sequences, group by "
            f"group; got {len(references)}. Score the sequences that are trained on."
        )
    differences = [
        _difference(sequence, logprobs)
        for sequence, logprobs in zip(sequences, references, strict=True)
    ]
    num_actions = sum(sequence.num_action_tokens for sequence in sequences)
    if not num_actions:
        return [list(group) for group in groups_P], {}
    mean = float(sum(difference.sum() for difference in differences)) / num_actions
    penalised = iter(
        _with_penalty(sequence, coef * (mean - difference), discount)
        for sequence, difference in zip(sequences, differences, strict=True)
    )
    return [[next(penalised) for _ in group] for group in groups_P], {"kl_policy_base": mean}


def _difference(sequence: TrainingSequence, reference_T: Array) -> Array:
    """log q - log p_ref on action tokens, 0 on others. float64, shape [T]."""
    mask = sequence.loss_mask_T
    if reference_T.shape != mask.shape or not np.all(np.isfinite(reference_T[mask])):
        raise ShapeError(
            f"apply_kl_penalty: expected {mask.size} finite logprobs, one per target token, for "
            f"group {sequence.group}, member {sequence.member}; got shape "
            f"{list(reference_T.shape)}, from {reference_T.min(initial=0.0)} on. Pass what "
            "reference_logprobs gave for this sequence."
        )
    sampler = sequence.sampler_logprobs_T.astype(np.float64)
    return np.where(mask, sampler - reference_T, 0.0)


def _with_penalty(sequence: TrainingSequence, earned_T: Array, discount: float) -> TrainingSequence:
    """The sequence with the sum of what its action tokens earn added to their advantages."""
    mask, datum = sequence.loss_mask_T, sequence.datum
    added = discounted_future_sum(np.where(mask, earned_T, 0.0), discount)
    advantages = datum.loss_fn_inputs["advantages"].to_numpy() + np.where(mask, added, 0.0)
    inputs = {**datum.loss_fn_inputs, "advantages": TensorData(advantages.astype(np.float32))}
    return msgspec.structs.replace(sequence, datum=Datum(datum.model_input, inputs))


def discounted_future_sum(values_T: Array, discount: float) -> Array:
    """The sum of discount^j * values[t + j] over j >= 0, at each t. float64, shape [T].

    In log2(T) passes: each extends sums over n places to 2n. All weights are at most 1, so that
    nothing overflows, as it would with a cumulative sum divided by powers of the discount.
    """
    sums = values_T.astype(np.float64)
    reach, weight = 1, float(discount)
    while reach < sums.size and weight:
        sums[:-reach] += weight * sums[reach:]
        reach, weight = 2 * reach, weight * weight
    return sums
