"""Many turns checked against a simple model."""

from tinker_rl.testing.state_machines.state_machine import (
    EnvStateMachine,
    machine_settings,
    run_env_state_machine,
    turn,
)

__all__ = [
    "EnvStateMachine",
    "machine_settings",
    "run_env_state_machine",
    "turn",
]
