"""Hypothesis, which draws the cases: it comes with the extra `testing`."""

from __future__ import annotations

try:
    import hypothesis
    from hypothesis import errors
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "tinker_rl.testing: expected the package hypothesis; got none. Install it with "
        "pip install 'tinker-rl[testing]'."
    ) from error

__all__ = ["errors", "hypothesis", "st"]
