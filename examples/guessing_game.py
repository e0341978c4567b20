"""A game of several turns, and a state machine that checks it against a model of a few lines.

python examples/guessing_game.py

The game is right, and its careless twin is not: the state machine shows the fewest guesses with
which one sees that. In a test file `TestGuessingGame = GuessingGameMachine.TestCase` is enough.
"""

from functools import partial

from hypothesis import strategies as st

from tinker_rl.envs import (
    EnvFromMessageEnv,
    MessageEnv,
    MessageStepResult,
    ProblemGroupBuilder,
    StopReason,
    current_rng,
    load_renderer,
)
from tinker_rl.renderers import get_text_content
from tinker_rl.testing import EnvStateMachine, cancel_everywhere, run_env_state_machine, turn

MOST_GUESSES = 6


class GuessingGame(MessageEnv):
    """A number from 1 to 20 is to be found in six guesses; hints say higher or lower."""

    def __init__(self):
        self.messages = [{"role": "user", "content": "Guess my number, from 1 to 20."}]
        self.secret = 0
        self.guesses = 0
        self.is_over = False

    async def initial_observation(self):
        self.secret = current_rng().randint(1, 20)
        return list(self.messages)

    async def step(self, message):
        if self.is_over:
            raise RuntimeError("the game is over")
        self.guesses += 1
        hint = self.hint(get_text_content(message).strip())
        self.is_over = hint == "Right!" or self.guesses == MOST_GUESSES
        self.messages += [message, {"role": "user", "content": hint}]
        lost = self.is_over and hint != "Right!"
        return MessageStepResult(
            reward=float(hint == "Right!"),
            episode_done=self.is_over,
            next_messages=list(self.messages),
            stop_reason=StopReason.MAX_TURNS if lost else None,
        )

    def hint(self, text):
        if not (text.isascii() and text.isdigit()):
            return "Say a number and nothing else."
        if int(text) == self.secret:
            return "Right!"
        return "Higher." if self.is_less(text) else "Lower."

    def is_less(self, text):
        return int(text) < self.secret


class CarelessGame(GuessingGame):
    """Compares texts: to it, 9 is more than 10."""

    def is_less(self, text):
        return text < str(self.secret)


class GuessingGameMachine(EnvStateMachine):
    """The model is the set of numbers that all hints so far allow; it never looks at the secret."""

    max_turns = MOST_GUESSES
    game = GuessingGame

    def make_env(self):
        return self.game()

    def make_model(self):
        return set(range(1, 21))

    @turn(number=st.integers(0, 21))
    def guess(self, number):
        result = self.act(str(number))
        hint = self.shown()
        if hint == "Higher.":
            self.model = {n for n in self.model if n > number}
        elif hint == "Lower.":
            self.model = {n for n in self.model if n < number}
        else:
            assert hint == "Right!"
            assert number in self.model, f"{number} was ruled out before"
            assert result.reward == 1.0
            assert result.episode_done
            return
        assert result.reward == 0.0
        assert self.model, "no number is left that fits the hints"

    @turn(text=st.sampled_from(["", "seven", "-3", "1e1", "²", "1 2"]))
    def say_something_else(self, text):
        result = self.act(text)
        assert result.reward == 0.0
        assert self.shown() == "Say a number and nothing else."


class CarelessGameMachine(GuessingGameMachine):
    game = CarelessGame


def make_group():
    """Four episodes of the game, as a run plays them."""
    renderer = load_renderer("tiny", "qwen3_instruct")
    make_env = partial(_in_tokens, renderer)
    return ProblemGroupBuilder(make_env, num_envs=4, dataset_name="guessing_game")


def _in_tokens(renderer):
    return EnvFromMessageEnv(renderer, GuessingGame())


def main():
    print(cancel_everywhere(make_group), "\n")
    run_env_state_machine(GuessingGameMachine)
    print("The game agrees with the model.\n\nIts careless twin:")
    try:
        run_env_state_machine(CarelessGameMachine, max_examples=100)
    except AssertionError as error:
        print(f"AssertionError: {str(error).splitlines()[0]}")
        print("\n".join(getattr(error, "__notes__", ())))


if __name__ == "__main__":
    main()
