"""Read back with TensorBoard's own reader."""

import resource

import anyio
import pytest
import tensorboardX  # noqa: F401  (takes seconds, like all of torch: no logger's time)

from tinker_rl.rl.loggers import LoggedRun, make_loggers
from tinker_rl.rl.loggers.tensorboard import TENSORBOARD_FOLDER, TensorBoardLogger

REWARD, ACCURACY = "env/all/reward/total", "test/env/all/correct"


@pytest.fixture
def start(kit, tmp_path):
    return lambda: kit.Start(tmp_path, make_loggers(["tensorboard"]))


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / TENSORBOARD_FOLDER))
    events.Reload()
    return events


def scalars(events, name):
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_run_of_two_starts_is_one_curve(kit, start, tmp_path, backend):
    first = start()
    for step in range(3):
        first.log.append(kit.step_row(step, step / 4))
    first.log.append(kit.evaluation_row(1, 0.25))  # done after later steps
    anyio.run(first.log.aclose, backend=backend)
    second = start()
    second.log.append(kit.step_row(3, 0.75))
    second.log.append(kit.evaluation_row(4, 0.5))
    anyio.run(second.log.aclose, backend=backend)

    events = read(tmp_path)
    assert scalars(events, REWARD) == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]
    assert scalars(events, ACCURACY) == [(1, 0.25), (4, 0.5)]
    assert len(list((tmp_path / TENSORBOARD_FOLDER).iterdir())) == 2
    assert first.lines == second.lines == []


def test_cut_steps_are_replaced(kit, start, tmp_path, backend):
    first = start()
    for step in range(4):
        first.log.append(kit.step_row(step, 0.0))
    anyio.run(first.log.aclose, backend=backend)
    first.rows.replace(first.rows.read()[:2])
    second = start()
    for step in range(2, 4):
        second.log.append(kit.step_row(step, 1.0))
    anyio.run(second.log.aclose, backend=backend)
    assert scalars(read(tmp_path), REWARD) == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0)]


def test_what_follows_a_full_disk_can_be_read(tmp_path):
    logger = TensorBoardLogger()
    run = LoggedRun(id="a", project="b", log_dir=tmp_path, config={}, cut_from=None)
    logger.start(run)
    metrics = {f"metric/number/{number}": 0.5 for number in range(50)}
    logger.log(0, metrics)
    size = max(path.stat().st_size for path in (tmp_path / TENSORBOARD_FOLDER).iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for step, limit in ((1, size + 100), (2, 0), (3, 0), (4, 0)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                logger.log(step, metrics)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    logger.log(5, metrics)
    logger.finish()
    assert [step for step, _ in scalars(read(tmp_path), "metric/number/7")] == [0, 5]
    assert len(list((tmp_path / TENSORBOARD_FOLDER).iterdir())) == 2


def test_the_options_go_along(kit, start, tmp_path, backend):
    anyio.run(start().log.aclose, backend=backend)
    events = read(tmp_path)
    (text,) = [event.tensor_proto.string_val[0] for event in events.Tensors("config/text_summary")]
    assert b'"max_turns": 3' in text
    metadata = events.summary_metadata["_hparams_/session_start_info"]
    assert b"limits.max_turns" in metadata.plugin_data.content
