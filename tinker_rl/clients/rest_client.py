"""Runs and checkpoints: list, look at, delete, let expire."""

from __future__ import annotations

from typing import Literal

from tinker_rl.backend import Backend
from tinker_rl.clients.refusals import refuse_project, refuse_token
from tinker_rl.futures import APIFuture
from tinker_rl.requests import (
    CopyWeights,
    DeleteCheckpoint,
    GetServerCapabilities,
    GetTrainingRun,
    GetWeightsInfo,
    ListCheckpoints,
    ListTrainingRuns,
    SetCheckpointPublic,
    SetCheckpointTtl,
)
from tinker_rl.types import (
    CheckpointsListResponse,
    GetServerCapabilitiesResponse,
    TrainingRun,
    TrainingRunsResponse,
    WeightsInfoResponse,
)

__all__ = ["RestClient"]

Scope = Literal["owned", "accessible"]


class RestClient:
    """Made by `ServiceClient.create_rest_client`. On one's own machine everything is owned, so
    `access_scope` makes no difference."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def get_server_capabilities(self) -> APIFuture[GetServerCapabilitiesResponse]:
        """The base models, and whether they can be had here."""
        return self._backend.submit(GetServerCapabilities())

    # ------------------------------------------------------------------------------------- runs

    def list_training_runs(
        self,
        limit: int = 20,
        offset: int = 0,
        access_scope: Scope = "owned",
        project_id: str | None = None,
    ) -> APIFuture[TrainingRunsResponse]:
        """Runs, the last used first."""
        refuse_project("list_training_runs", project_id)
        return self._backend.submit(ListTrainingRuns(limit=limit, offset=offset))

    async def list_training_runs_async(
        self,
        limit: int = 20,
        offset: int = 0,
        access_scope: Scope = "owned",
        project_id: str | None = None,
    ) -> TrainingRunsResponse:
        """`list_training_runs`."""
        return await self.list_training_runs(limit, offset, access_scope, project_id)

    def get_training_run(
        self, training_run_id: str, access_scope: Scope = "owned"
    ) -> APIFuture[TrainingRun]:
        """One run."""
        return self._backend.submit(GetTrainingRun(training_run_id=training_run_id))

    async def get_training_run_async(
        self, training_run_id: str, access_scope: Scope = "owned"
    ) -> TrainingRun:
        """`get_training_run`."""
        return await self.get_training_run(training_run_id, access_scope)

    def get_training_run_by_tinker_path(
        self, tinker_path: str, access_scope: Scope = "owned"
    ) -> APIFuture[TrainingRun]:
        """The run that a checkpoint belongs to."""
        run_id = tinker_path.removeprefix("tinker://").partition("/")[0]
        return self.get_training_run(run_id, access_scope)

    async def get_training_run_by_tinker_path_async(
        self, tinker_path: str, access_scope: Scope = "owned"
    ) -> TrainingRun:
        """`get_training_run_by_tinker_path`."""
        return await self.get_training_run_by_tinker_path(tinker_path, access_scope)

    # ------------------------------------------------------------------------------ checkpoints

    def list_checkpoints(self, training_run_id: str) -> APIFuture[CheckpointsListResponse]:
        """The checkpoints of a run, the oldest first."""
        return self._backend.submit(ListCheckpoints(training_run_id=training_run_id))

    async def list_checkpoints_async(self, training_run_id: str) -> CheckpointsListResponse:
        """`list_checkpoints`."""
        return await self.list_checkpoints(training_run_id)

    def list_user_checkpoints(
        self, limit: int = 100, offset: int = 0
    ) -> APIFuture[CheckpointsListResponse]:
        """The checkpoints of all runs, the oldest first."""
        return self._backend.submit(ListCheckpoints(limit=limit, offset=offset))

    async def list_user_checkpoints_async(
        self, limit: int = 100, offset: int = 0
    ) -> CheckpointsListResponse:
        """`list_user_checkpoints`."""
        return await self.list_user_checkpoints(limit, offset)

    def get_weights_info_by_tinker_path(self, tinker_path: str) -> APIFuture[WeightsInfoResponse]:
        """Base model and rank of a checkpoint."""
        return self._backend.submit(GetWeightsInfo(path=tinker_path))

    def delete_checkpoint(self, training_run_id: str, checkpoint_id: str) -> APIFuture[None]:
        """Delete `<kind>/<name>` of a run."""
        return self.delete_checkpoint_from_tinker_path(
            f"tinker://{training_run_id}/{checkpoint_id}"
        )

    async def delete_checkpoint_async(self, training_run_id: str, checkpoint_id: str) -> None:
        """`delete_checkpoint`."""
        await self.delete_checkpoint(training_run_id, checkpoint_id)

    def delete_checkpoint_from_tinker_path(self, tinker_path: str) -> APIFuture[None]:
        """Delete a checkpoint."""
        return self._backend.submit(DeleteCheckpoint(path=tinker_path))

    async def delete_checkpoint_from_tinker_path_async(self, tinker_path: str) -> None:
        """`delete_checkpoint_from_tinker_path`."""
        await self.delete_checkpoint_from_tinker_path(tinker_path)

    def set_checkpoint_ttl_from_tinker_path(
        self, tinker_path: str, ttl_seconds: int | None
    ) -> APIFuture[None]:
        """Let a checkpoint expire so many seconds from now; None: never."""
        return self._backend.submit(SetCheckpointTtl(path=tinker_path, ttl_seconds=ttl_seconds))

    async def set_checkpoint_ttl_from_tinker_path_async(
        self, tinker_path: str, ttl_seconds: int | None
    ) -> None:
        """`set_checkpoint_ttl_from_tinker_path`."""
        await self.set_checkpoint_ttl_from_tinker_path(tinker_path, ttl_seconds)

    def publish_checkpoint_from_tinker_path(self, tinker_path: str) -> APIFuture[None]:
        """Mark a checkpoint as public."""
        return self._backend.submit(SetCheckpointPublic(path=tinker_path, public=True))

    async def publish_checkpoint_from_tinker_path_async(self, tinker_path: str) -> None:
        """`publish_checkpoint_from_tinker_path`."""
        await self.publish_checkpoint_from_tinker_path(tinker_path)

    def unpublish_checkpoint_from_tinker_path(self, tinker_path: str) -> APIFuture[None]:
        """Take the mark of a public checkpoint away."""
        return self._backend.submit(SetCheckpointPublic(path=tinker_path, public=False))

    async def unpublish_checkpoint_from_tinker_path_async(self, tinker_path: str) -> None:
        """`unpublish_checkpoint_from_tinker_path`."""
        await self.unpublish_checkpoint_from_tinker_path(tinker_path)

    def copy_weights(
        self,
        path: str,
        destination_project_id: str | None = None,
        *,
        ttl_seconds: int | None = None,
        weights_access_token: str | None = None,
    ) -> APIFuture[str]:
        """Copy a checkpoint into a run of its own; gives the new path."""
        refuse_project("copy_weights", destination_project_id)
        refuse_token("copy_weights", weights_access_token)
        return self._backend.submit(CopyWeights(path=path, ttl_seconds=ttl_seconds))

    async def copy_weights_async(
        self,
        path: str,
        destination_project_id: str | None = None,
        *,
        ttl_seconds: int | None = None,
        weights_access_token: str | None = None,
    ) -> str:
        """`copy_weights`."""
        return await self.copy_weights(
            path,
            destination_project_id,
            ttl_seconds=ttl_seconds,
            weights_access_token=weights_access_token,
        )
