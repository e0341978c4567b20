"""An environment of your own: how often does a letter occur in a word?

python examples/custom_env.py

In 70 seconds on two busy cores `tiny` goes from no right answer to 0.61 and 0.65 of them, with two
seeds. (Whoever says "2" to everything is right in two cases of five.)
"""

from functools import partial

import chz

from tinker_rl.envs import (
    DrawnDataset,
    ProblemEnv,
    RLDataset,
    RLDatasetBuilder,
    extract_boxed,
    load_renderer,
)
from tinker_rl.rl import Config, train

WORDS = ("banana", "mississippi", "committee")


class LetterEnv(ProblemEnv):
    def __init__(self, word, letter, renderer):
        super().__init__(renderer)
        self.word, self.letter = word, letter

    def get_question(self):
        return f"How many {self.letter} are in {self.word}? Answer in \\boxed{{}}."

    def check_answer(self, sample_str):
        return extract_boxed(sample_str) == self.get_reference_answer()

    def check_format(self, sample_str):
        return extract_boxed(sample_str) is not None

    def get_reference_answer(self):
        return str(self.word.count(self.letter))


@chz.chz
class LetterDatasetBuilder(RLDatasetBuilder):
    batch_size: int
    group_size: int
    model_name_for_tokenizer: str
    renderer_name: str
    n_batches: int = 100
    seed: int = 0

    async def __call__(self) -> tuple[RLDataset, RLDataset | None]:
        renderer = load_renderer(self.model_name_for_tokenizer, self.renderer_name)

        def draw(rng):
            word = rng.choice(WORDS)
            return partial(LetterEnv, word, rng.choice(word), renderer)

        train = DrawnDataset(
            draw,
            batch_size=self.batch_size,
            group_size=self.group_size,
            n_batches=self.n_batches,
            seed=self.seed,
            name="letters",
        )
        return train, None


if __name__ == "__main__":
    train(
        Config(
            model_name="tiny",
            dataset_builder=LetterDatasetBuilder(
                batch_size=32,
                group_size=8,
                model_name_for_tokenizer="tiny",
                renderer_name="qwen3_instruct",
            ),
            learning_rate=2e-3,
            max_tokens=16,
            max_steps=20,
            log_path="runs/custom_env",
        )
    )
