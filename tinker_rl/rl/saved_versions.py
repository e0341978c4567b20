"""Past weights on the disk: what groups, evaluations and leagues need of them after a kill."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from tinker_rl.errors import CheckpointError, TinkerRLError

if TYPE_CHECKING:
    from tinker_rl.clients import SamplingClient, ServiceClient, TrainingClient

__all__ = ["SavedVersions"]

logger = logging.getLogger(__name__)


class SavedVersions:
    """Which versions lie where, to sample from.

    Args:
        service_client: The engine.
        training_client: The model in training.
        paths: Of versions that earlier starts saved.
    """

    def __init__(
        self,
        service_client: ServiceClient,
        training_client: TrainingClient,
        paths: Mapping[int, str],
    ) -> None:
        self._service_client = service_client
        self._training_client = training_client
        self._paths = dict(paths)

    @property
    def versions(self) -> frozenset[int]:
        """Those that are there."""
        return frozenset(self._paths)

    async def save(self, version: int) -> str:
        """Save the present weights of the model as that version; returns their path."""
        name = f"version-{version:06d}"
        future = await self._training_client.save_weights_for_sampler_async(name)
        self._paths[version] = path = (await future).path
        return path

    async def load(self, version: int) -> SamplingClient:
        """A client that samples from a version.

        Raises:
            CheckpointError: if it was not saved, or is damaged.
        """
        path = self._paths.get(version)
        if path is None:
            raise self._gone(version, f"those of {sorted(self._paths)} only")
        try:
            return await self._service_client.create_sampling_client_async(model_path=path)
        except CheckpointError as error:
            raise self._gone(version, f"an error ({error})") from error

    def _gone(self, version: int, found: str) -> CheckpointError:
        return CheckpointError(
            f"version {version}: expected its saved weights, which groups of this run start with "
            f"or play against; got {found}. Start afresh with behavior_if_log_dir_exists=delete, "
            "or go on with lag=newest and without a league."
        )

    async def keep_only(self, versions: Collection[int]) -> None:
        """Delete all others. What cannot be deleted is left."""
        for version in sorted(self.versions - set(versions)):
            path = self._paths.pop(version)
            rest = self._service_client.create_rest_client()
            try:
                await rest.delete_checkpoint_from_tinker_path_async(path)
            except CheckpointError:
                continue  # an earlier start deleted it
            except TinkerRLError as error:
                logger.warning("The weights of version %d stay at %s: %s", version, path, error)
