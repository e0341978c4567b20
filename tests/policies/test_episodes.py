import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tinker_rl.errors import RequestError
from tinker_rl.policies import EpisodeKey, playing, present_episode


def test_code_outside_an_episode_is_told_so():
    with pytest.raises(RequestError, match="inside an episode"):
        present_episode()


def test_tasks_and_threads_know_the_episode_they_were_started_in(backend):
    seen = {}

    async def look(member):
        with playing(EpisodeKey(run_seed=0, group=1, member=member), 7):
            await anyio.lowlevel.checkpoint()
            seen[member] = await anyio.to_thread.run_sync(present_episode)

    async def go():
        async with anyio.create_task_group() as tasks:
            for member in range(3):
                tasks.start_soon(look, member)

    anyio.run(go, backend=backend)
    assert [seen[m].key.member for m in range(3)] == [0, 1, 2]
    assert {episode.policy_version for episode in seen.values()} == {7}
