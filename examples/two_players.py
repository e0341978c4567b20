"""A game for two, played by the two episodes of one group, each of which waits for the other.

python examples/two_players.py

Whoever writes what is no move loses; so does a player whose message is cut off, cannot be read, or
who runs into a limit of the run. The environment hears of these in `on_early_end`, and the other
player, who waits for a move that never comes, has won at once.
"""

from dataclasses import dataclass

import anyio

from tinker_rl.completers import ScriptedTokenCompleter
from tinker_rl.envs import (
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    load_renderer,
)
from tinker_rl.policies import EpisodeKey
from tinker_rl.renderers import Renderer, get_text_content
from tinker_rl.rl import RolloutLimits, do_group_rollout
from tinker_rl.testing import (
    RandomCompleter,
    cancel_everywhere,
    check_env,
    run_in_virtual_time,
)

MOVES = ("1", "2", "3")


class Table:
    """What the two players share: whose move it is, and who has won."""

    def __init__(self, stones):
        self.stones = stones
        self.to_move = 0
        self.winner = None
        self._changed = anyio.Event()

    async def wait_for_turn(self, side):
        """Until it is this side's move, or the game is over."""
        while self.winner is None and self.to_move != side:
            await self._changed.wait()

    def move(self, side, text):
        """Take stones. Whoever takes the last one wins, and what is no move loses."""
        if text not in MOVES or int(text) > self.stones:
            self.give_up(side)
            return
        self.stones -= int(text)
        self.to_move = 1 - side
        if self.stones == 0:
            self.winner = side
        self._tell()

    def give_up(self, side):
        """Lose, unless the game is over."""
        if self.winner is None:
            self.winner = 1 - side
        self._tell()

    def _tell(self):
        self._changed.set()
        self._changed = anyio.Event()


class Player(MessageEnv):
    """One side of the game, as one episode sees it."""

    def __init__(self, table, side):
        self.table = table
        self.side = side
        self.messages = []

    async def initial_observation(self):
        await self.table.wait_for_turn(self.side)
        rules = "Take 1, 2 or 3 stones. Whoever takes the last one wins."
        self.messages = [{"role": "user", "content": f"{rules} {self.state()}"}]
        return list(self.messages)

    async def step(self, message):
        if self.table.winner is None:  # else the other side lost before this one could move
            self.table.move(self.side, get_text_content(message).strip())
            await self.table.wait_for_turn(self.side)
        self.messages += [message, {"role": "user", "content": self.state()}]
        return MessageStepResult(
            reward=0.0,  # the game pays, in compute_group_rewards
            episode_done=self.table.winner is not None,
            next_messages=list(self.messages),
        )

    async def on_early_end(self, stop_reason):
        self.table.give_up(self.side)

    def state(self):
        if self.table.winner is None:
            return f"{self.table.stones} are left."
        return "You have won." if self.table.winner == self.side else "You have lost."


@dataclass(frozen=True)
class NimGroupBuilder(EnvGroupBuilder):
    """One game. Its two episodes cannot be played again one by one, so they are linked."""

    renderer: Renderer
    stones: int = 10
    linked = True

    async def make_envs(self):
        table = Table(self.stones)
        return [
            EnvFromMessageEnv(
                self.renderer,
                Player(table, side),
                failed_parse_reward=0.0,  # it costs the game, and no more
                context_overflow_reward=0.0,
            )
            for side in range(2)
        ]

    async def compute_group_rewards(self, trajectories, envs):
        winner = envs[0].message_env.table.winner
        won = [side == winner for side in range(2)]
        return [(1.0 if each else -1.0, {"won": float(each)}) for each in won]

    def logging_tags(self):
        return ["nim"]


def make_group():
    return NimGroupBuilder(load_renderer("tiny", "qwen3_instruct"))


def random_moves():
    """Who plays without looking."""
    return RandomCompleter(MOVES, load_renderer("tiny", "qwen3_instruct"))


def long_thoughts():
    """Who never comes to an end, and is cut off at the token limit."""
    tokens = load_renderer("tiny", "qwen3_instruct").tokenizer.encode("Well, let me think. " * 4)
    return ScriptedTokenCompleter(lambda prompt: tokens)


def check(**options):
    """Everything that a policy may write, and a cancellation wherever a game waits."""
    report = check_env(
        make_group, valid_actions=MOVES, max_turns=10, reward_range=(-1, 1), **options
    )
    return report, cancel_everywhere(make_group, make_actor=random_moves)


def play(completer):
    """A game between two of the same policy, as a run plays it; hours of waiting pass at once."""
    key = EpisodeKey(run_seed=0, group=0)
    limits = RolloutLimits(max_tokens_per_turn=16)
    return run_in_virtual_time(do_group_rollout, make_group(), completer, key, limits)


def main():
    for report in check():
        print(report, "\n")
    for name, completer in (("random moves", random_moves()), ("long thoughts", long_thoughts())):
        outcome = play(completer)
        for side, episode in enumerate(outcome.group.trajectories_G):
            print(
                f"{name}: player {side} earns {outcome.group.final_rewards_G[side]:+g}, "
                f"messages: {len(episode.transitions)}, {episode.stop_reason}"
            )


if __name__ == "__main__":
    main()
