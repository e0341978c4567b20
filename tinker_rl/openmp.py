"""Lets torch's threads sleep while they wait for each other.

By default they spin for a while, on cores that the engine's event loop, the environments and other
programs need too: on two busy cores that made a step of the demo ten times slower. OpenMP reads the
setting once, when torch is first imported, so this must come before. Whoever sets the variable
keeps his own choice.
"""

import os

__all__: list[str] = []

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
