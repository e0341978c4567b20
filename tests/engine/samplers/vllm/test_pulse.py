from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.engine.samplers.vllm.pulse import PULSE_SECONDS, Pulse, Vitals

STALL, STEP = 5, 30


def looks(pulse, seconds, *, cpu=0.0, start=0.0, **fields):
    """Look for so long; the reason, and after how many seconds it was given."""
    given_ = {"answered": False, "progress": 0, "has_work": False, **fields}
    vitals = {key: given_.pop(key) for key in ("dead", "stopped") if key in given_}
    used = start
    for second in range(1, seconds + 1):
        used += cpu * PULSE_SECONDS
        reason = pulse.look(Vitals(cpu_seconds=used, **vitals), **given_)
        if reason is not None:
            return reason, second
    return None, seconds


@given(
    st.lists(st.tuples(st.integers(1, STALL - 1), st.floats(0, 4)), max_size=20),
    st.booleans(),
)
def test_an_engine_that_answers_now_and_then_lives(pauses, has_work):
    pulse, used = Pulse(STALL, STEP), 0.0
    for progress, (pause, cpu) in enumerate(pauses):
        for _ in range(pause):
            used += cpu
            reason = pulse.look(
                Vitals(cpu_seconds=used), answered=False, progress=progress, has_work=has_work
            )
            assert reason is None
        reason = pulse.look(
            Vitals(cpu_seconds=used), answered=True, progress=progress + 1, has_work=has_work
        )
        assert reason is None


@given(st.integers(0, 100), st.floats(0, 1000))
def test_one_that_is_silent_and_idle_is_stuck(before, used):
    pulse = Pulse(STALL, STEP)
    assert looks(pulse, before, answered=True, start=used, cpu=0.5) == (None, before)
    reason, after = looks(pulse, 60, start=used + before * 0.5)
    assert "does nothing" in reason
    assert after == STALL


@given(st.floats(0.2, 16))
def test_one_that_is_silent_and_busy_gets_as_long_as_a_step_may_take(cpu):
    reason, after = looks(Pulse(STALL, STEP), 100, cpu=cpu)
    assert reason == f"it has not answered for {STEP} s"
    assert after == STEP


def test_one_that_answers_but_makes_no_token_is_stuck():
    reason, after = looks(Pulse(STALL, STEP), 100, answered=True, has_work=True, progress=7)
    assert "no token" in reason
    assert after == STEP + 1
    assert looks(Pulse(STALL, STEP), 100, answered=True, progress=7) == (None, 100)  # no work


def test_death_is_noticed_at_once_and_a_stop_at_the_second_look():
    assert looks(Pulse(STALL, STEP), 9, answered=True, dead=True)[1] == 1
    assert looks(Pulse(STALL, STEP), 9, answered=True, stopped=True)[1] == 2
