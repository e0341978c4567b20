"""Past versions as opponents, in whole runs."""

import pytest

from tinker_rl.policies import League, present_episode
from tinker_rl.types import ModelInput

EVERY, SIZE, STEPS_AHEAD = 2, 2, 2


def league():
    return League(every=EVERY, max_size=SIZE, max_lag=STEPS_AHEAD)


def options_of(runs, opponents):
    return {
        "dataset_builder": runs.Data(num_batches=7),
        "async_config": runs.fixed(STEPS_AHEAD),
        "learning_rate": 3e-2,
        "league": opponents,
    }


def ask_opponents(world, opponents, met):
    """In every first step, let an opponent act; what it says becomes part of what `met` knows."""

    async def before_step(group, member, turn):
        if turn == 0:
            opponent = opponents.opponent()
            prompt = ModelInput.from_ints([5, 6, 7 + group])
            action = await opponents.completer()(prompt, [], max_tokens=2)
            started_at = present_episode().policy_version
            met[group, member] = (started_at, opponent.policy_version, action.tokens)

    world.before_step = before_step


@pytest.mark.parametrize("num_steps", [10, 22])
def test_opponents_are_past_selves_and_a_restart_meets_the_same_ones(
    runs, world, tmp_path, num_steps
):
    opponents, met = league(), {}
    ask_opponents(world, opponents, met)
    runs.run(runs.config(tmp_path / "unbroken", **options_of(runs, opponents)))
    versions = opponents.versions
    assert len(met) == 7 * 2 * 2
    for started_at, opponent, tokens in met.values():
        assert opponent <= started_at
        assert opponent % EVERY == 0
        assert 1 <= len(tokens) <= 2
    assert len({opponent for _, opponent, _ in met.values()}) > 1

    met_again = {}
    for cut_off in (True, True, False):
        opponents = league()  # another process has one that knows nothing
        ask_opponents(world, opponents, met_again)
        options = options_of(runs, opponents)
        config = runs.config(tmp_path / "broken", **options, save_every=3)
        if cut_off:
            assert runs.run_for(num_steps, config)
        else:
            runs.run(config)
    assert met_again == met
    assert opponents.versions == versions
    assert runs.account(tmp_path / "broken") == runs.account(tmp_path / "unbroken")
