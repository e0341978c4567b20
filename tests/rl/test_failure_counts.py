from tinker_rl.rl.failure_counts import FailureCounts
from tinker_rl.rl.outcomes import EnvFailure, InfraFailure


def test_errors_of_one_type_at_one_place_are_one_kind_whatever_they_say():
    down = [EnvFailure("step", "DatabaseDown", f"10.0.0.{n} is down", "a.py:3") for n in range(3)]
    other = [
        EnvFailure("step", "DatabaseDown", "10.0.0.0 is down", "a.py:4"),
        EnvFailure("make_envs", "DatabaseDown", "10.0.0.0 is down", "a.py:3"),
        InfraFailure("step", "DatabaseDown", "10.0.0.0 is down"),
        InfraFailure("step", "DatabaseDown", "10.0.0.0 is down"),
    ]
    counts = FailureCounts()
    numbers = [counts.add(failure) for failure in [*other, *down]]
    assert numbers == [1, 1, 1, 2, 1, 2, 3]
    assert counts.total == 7
    assert counts.lines(lambda failure: f"{failure.where}: {failure.error}", most=2) == [
        "3 x step: 10.0.0.0 is down (the first; not all say the same)",
        "2 x step: 10.0.0.0 is down",
    ]
