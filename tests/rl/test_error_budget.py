import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.errors import CompleterError, EnvError
from tinker_rl.rl.error_budget import ErrorBudget
from tinker_rl.rl.outcomes import DroppedGroup, EnvFailure, InfraFailure

ENV = DroppedGroup(failure=EnvFailure("step", "OSError", "gone"), member=0, num_sampled_tokens=3)
INFRA = DroppedGroup(
    failure=InfraFailure("sample", "EngineError", "down"), member=0, num_sampled_tokens=3
)
groups = st.lists(st.sampled_from([None, None, None, ENV, INFRA]), max_size=30)


@given(groups=groups, fraction=st.floats(0, 1))
def test_a_run_stops_when_and_only_when_its_share_is_passed(groups, fraction):
    budget = ErrorBudget(fraction)
    for group in groups:
        budget.count(group)
    failed = [group for group in groups if group is not None]
    assert budget.num_failed == len(failed)
    if len(failed) <= fraction * len(groups) or (len(failed) == 1 and fraction > 0):
        budget.check()
        return
    kind = CompleterError if failed.count(INFRA) > failed.count(ENV) else EnvError
    with pytest.raises(kind, match=f"got {len(failed)} of {len(groups)}") as raised:
        budget.check()
    for group in failed:
        assert f"{failed.count(group)} x " in str(raised.value)
        assert group.failure.error in str(raised.value)


def test_with_no_share_the_first_failure_stops():
    budget = ErrorBudget(0.0)
    for _ in range(1000):
        budget.count(None)
    budget.check()
    budget.count(ENV)
    with pytest.raises(EnvError, match=r"environment, in step: OSError: gone"):
        budget.check()
