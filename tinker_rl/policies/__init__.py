"""Policies: who acts, and with which weights."""

from tinker_rl.policies.adaptive_limit import AdaptiveLimit, FixedLimit, Limit
from tinker_rl.policies.episodes import PresentEpisode, playing, present_episode
from tinker_rl.policies.frozen import FrozenPolicy
from tinker_rl.policies.gate import Priority, SamplerGate, Slot
from tinker_rl.policies.league import League
from tinker_rl.policies.live import LivePolicy
from tinker_rl.policies.sampled import SampledActions
from tinker_rl.policies.seeds import EpisodeKey, stable_seed
from tinker_rl.policies.types import Actor, Policy, Refresh, completer_for

__all__ = [
    "Actor",
    "AdaptiveLimit",
    "EpisodeKey",
    "FixedLimit",
    "FrozenPolicy",
    "League",
    "Limit",
    "LivePolicy",
    "Policy",
    "PresentEpisode",
    "Priority",
    "Refresh",
    "SampledActions",
    "SamplerGate",
    "Slot",
    "completer_for",
    "playing",
    "present_episode",
    "stable_seed",
]
