"""What was earned once is paid at every later turn."""

from broken.base import SHELF_CALLS, Shelf, talk

PROPERTY = "rewards_in_range"
OPTIONS = {"valid_episodes": [[*SHELF_CALLS[:2], "42"]], "reward_range": (-1.0, 1.0)}


class Generous(Shelf):
    def reward(self, said):
        return float(self.kept.get("x") == "42")


def broken():
    return talk(Generous)


def mended():
    return talk(Shelf)
