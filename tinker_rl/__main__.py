"""`python -m tinker_rl <command> [key=value ...]`."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "doctor": "what this machine has, what is wrong with it, and whether a model fits",
    "journal": "what a run of reinforcement learning did: its steps, its groups, one group's text",
    "view": "a run to look at in a browser: curves, where the time went, every episode",
}
"""Modules of `tinker_rl.cli`, each with a function `run`."""


def main() -> None:
    """Run the command that the first argument names; without one, say which there are."""
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name in COMMANDS:
        sys.argv[:2] = [f"tinker_rl {name}"]
        import_module(f"tinker_rl.cli.{name}").run()
        return
    known = "\n".join(f"    {command:10} {what}" for command, what in COMMANDS.items())
    usage = f"python -m tinker_rl <command> [key=value ...], with --help for its options:\n{known}"
    if name in (None, "-h", "--help"):
        print(usage)
        return
    print(f"tinker_rl: expected a command; got {name!r}.\n{usage}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
