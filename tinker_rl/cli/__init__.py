"""Commands: `python -m tinker_rl <command>`."""
