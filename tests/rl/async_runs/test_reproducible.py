"""With a fixed lag, what environments take their time for changes nothing but the time."""

import pytest

SCHEDULES = {
    "asynchronous": {},
    "streaming": {"num_substeps": 2, "num_minibatches": 2},
    "penalised": {"kl_penalty_coef": 0.1, "kl_discount_factor": 0.5},
    "evaluated": {"eval_every": 2},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_two_runs_of_other_delays_agree_on_weights_metrics_and_journal(runs, world, tmp_path, name):
    options = dict(SCHEDULES[name])
    parts = options.pop("num_minibatches", None)
    options["stream_minibatch_config"] = runs.stream(parts, 4) if parts else None
    data = runs.Data(batch_size=4, held_out=name == "evaluated")
    found = []
    for backend, seed in (("trio", 1), ("asyncio", 2)):
        world.sleep_at_random(seed)
        log_path = tmp_path / backend
        runs.run(runs.config(log_path, data, async_config=runs.fixed(2, 4), **options), backend)
        found.append((runs.hashes(log_path), *runs.account(log_path)))
    (hashes, rows, journal), others = found
    assert hashes == others[0]
    assert rows == others[1]
    assert journal == others[2]
    assert runs.trained(tmp_path / "trio") == list(range(5 * 4))
    ages = [row["async/staleness_max"] for row in rows if "optim/lr" in row]
    assert ages == [0, 1, 2, 2, 2]
