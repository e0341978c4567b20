import time

import pytest

from tinker_rl import ServiceClient
from tinker_rl.engine.local import EngineOptions
from tinker_rl.errors import CheckpointError, RequestError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A store with two runs; the second has checkpoints of both kinds."""
    options = EngineOptions(home=str(tmp_path_factory.mktemp("home")))
    with ServiceClient(engine_options=options) as service:
        first = service.create_lora_training_client("tiny", rank=2, user_metadata={"n": "1"})
        second = service.create_lora_training_client("tiny", rank=4, train_mlp=False)
        paths = [
            second.save_state("a", user_metadata={"step": "1"}).result().path,
            second.save_weights_for_sampler("b").result().path,
            second.save_state("c", ttl_seconds=3600).result().path,
        ]
        yield service, service.create_rest_client(), [first.model_id, second.model_id], paths


def test_runs_are_listed_page_by_page(home):
    _, rest, (first, second), paths = home
    response = rest.list_training_runs().result()
    assert [run.training_run_id for run in response.training_runs] == [second, first]
    assert (response.cursor.offset, response.cursor.limit, response.cursor.total_count) == (
        0,
        20,
        2,
    )
    page = rest.list_training_runs(limit=1, offset=1).result()
    assert [run.training_run_id for run in page.training_runs] == [first]
    assert page.cursor.total_count == 2
    run = response.training_runs[0]
    assert (run.base_model, run.is_lora, run.lora_rank) == ("tiny", True, 4)
    assert run.last_checkpoint.tinker_path == paths[2]
    assert run.last_sampler_checkpoint.tinker_path == paths[1]
    assert response.training_runs[1].user_metadata == {"n": "1"}
    assert response.training_runs[1].last_checkpoint is None
    assert rest.get_training_run(second).result() == run
    assert rest.get_training_run_by_tinker_path(paths[0]).result() == run
    assert run.last_request_time.tzinfo is not None


def test_checkpoints_are_listed_with_what_is_known(home):
    _, rest, (first, second), paths = home
    found = rest.list_checkpoints(second).result().checkpoints
    assert [c.tinker_path for c in found] == paths
    assert [c.checkpoint_id for c in found] == ["weights/a", "sampler_weights/b", "weights/c"]
    assert [c.checkpoint_type for c in found] == ["training", "sampler", "training"]
    assert found[0].user_metadata == {"step": "1"}
    assert [c.expires_at is not None for c in found] == [False, False, True]
    assert found[0].size_bytes > found[1].size_bytes > 1000
    assert rest.list_checkpoints(first).result().checkpoints == []
    everything = rest.list_user_checkpoints(limit=2, offset=1).result()
    assert [c.tinker_path for c in everything.checkpoints] == paths[1:3]
    assert everything.cursor.total_count >= 3


def test_a_checkpoint_says_what_it_is_of(home):
    _, rest, _, paths = home
    info = rest.get_weights_info_by_tinker_path(paths[1]).result()
    assert (info.base_model, info.is_lora, info.lora_rank) == ("tiny", True, 4)
    assert (info.train_attn, info.train_mlp, info.train_unembed) == (True, False, True)


def test_checkpoints_can_be_copied_changed_and_deleted(home):
    service, rest, (_, second), paths = home
    copy = rest.copy_weights(paths[0], ttl_seconds=600).result()
    other = service.copy_weights(paths[1]).result()
    for path, source in ((copy, paths[0]), (other, paths[1])):
        assert path.split("/")[3:] == source.split("/")[3:]
        run = rest.get_training_run_by_tinker_path(path).result()
        assert run.training_run_id not in (second, "")
        assert run.lora_rank == 4
    assert service.create_training_client_from_state(copy).get_info().lora_rank == 4

    run_id = copy.split("/")[2]
    described = rest.list_checkpoints(run_id).result().checkpoints[0]
    assert described.user_metadata == {"step": "1"}
    assert not described.public
    rest.publish_checkpoint_from_tinker_path(copy).result()
    rest.set_checkpoint_ttl_from_tinker_path(copy, None).result()
    described = rest.list_checkpoints(run_id).result().checkpoints[0]
    assert described.public
    assert described.expires_at is None
    rest.unpublish_checkpoint_from_tinker_path(copy).result()
    assert not rest.list_checkpoints(run_id).result().checkpoints[0].public

    rest.delete_checkpoint(run_id, "weights/a").result()
    rest.delete_checkpoint_from_tinker_path(other).result()
    for path in (copy, other):
        with pytest.raises(CheckpointError, match="got nothing there"):
            rest.get_weights_info_by_tinker_path(path).result()
    assert rest.list_checkpoints(run_id).result().checkpoints == []


def test_a_checkpoint_whose_time_is_over_is_gone(home):
    service, rest, _, paths = home
    path = rest.copy_weights(paths[0], ttl_seconds=1).result()
    time.sleep(1.1)
    with pytest.raises(CheckpointError, match="expired"):
        service.create_training_client_from_state(path)
    assert rest.list_checkpoints(path.split("/")[2]).result().checkpoints == []


@pytest.mark.parametrize("bad", ["", "..", "a/b", "nobody", "tinker://x"])
def test_what_is_not_there_is_an_error(home, bad):
    _, rest, (_, second), paths = home
    for call in (
        lambda: rest.get_training_run(bad),
        lambda: rest.get_training_run_by_tinker_path(f"tinker://{bad}/weights/a"),
        lambda: rest.delete_checkpoint_from_tinker_path(bad),
        lambda: rest.delete_checkpoint(second, bad),
        lambda: rest.delete_checkpoint(bad, "weights/a"),
        lambda: rest.set_checkpoint_ttl_from_tinker_path(bad, 60),
        lambda: rest.publish_checkpoint_from_tinker_path(bad),
        lambda: rest.get_weights_info_by_tinker_path(bad),
        lambda: rest.copy_weights(bad),
        lambda: rest.list_checkpoints(bad),
    ):
        with pytest.raises(CheckpointError, match="expected"):
            call().result()
    with pytest.raises(CheckpointError, match="ttl_seconds: expected 1 or more"):
        rest.set_checkpoint_ttl_from_tinker_path(paths[0], 0).result()
    assert len(rest.list_checkpoints(second).result().checkpoints) == 3


@pytest.mark.parametrize("page", [{"limit": -1}, {"offset": -1}, {"limit": 0}])
def test_a_page_that_is_none_is_refused(home, page):
    _, rest, _, _ = home
    for call in (rest.list_training_runs, rest.list_user_checkpoints):
        with pytest.raises(RequestError, match=f"{next(iter(page))}: expected"):
            call(**page).result()


def test_capabilities_are_those_of_the_service(home):
    service, rest, _, _ = home
    assert rest.get_server_capabilities().result() == service.get_server_capabilities()
