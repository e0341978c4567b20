"""What policies write, drawn: actions, messages, seeds, whole episodes."""

from tinker_rl.testing.strategies.actions import ACTION_KINDS, actions
from tinker_rl.testing.strategies.drawn_action import DrawnAction
from tinker_rl.testing.strategies.episodes import episodes, groups, messages, seeds, tool_calls
from tinker_rl.testing.strategies.scripts import EpisodeScript, GroupScript

__all__ = [
    "ACTION_KINDS",
    "DrawnAction",
    "EpisodeScript",
    "GroupScript",
    "actions",
    "episodes",
    "groups",
    "messages",
    "seeds",
    "tool_calls",
]
