"""A list that the members of a group share, and how `check_env` finds it.

python examples/shared_list.py
"""

from dataclasses import dataclass

from tinker_rl.envs import (
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    load_renderer,
)
from tinker_rl.renderers import Renderer, get_text_content
from tinker_rl.testing import EnvCheckError, check_env


class AnimalsEnv(MessageEnv):
    """Three animals are to be named; each earns 1 if it was not named before."""

    def __init__(self, named=[]):  # noqa: B006 - this is the fault: one list for all environments
        self.named = named
        self.left = 3
        self.messages = [{"role": "user", "content": "Name an animal."}]

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        animal = get_text_content(message).strip().lower()
        is_new = animal not in self.named
        self.named.append(animal)
        self.left -= 1
        self.messages += [message, {"role": "user", "content": "Another."}]
        return MessageStepResult(float(is_new), self.left == 0, list(self.messages))


class MendedAnimalsEnv(AnimalsEnv):
    def __init__(self):
        super().__init__(named=[])


@dataclass(frozen=True)
class AnimalsGroupBuilder(EnvGroupBuilder):
    kind: type[AnimalsEnv]
    renderer: Renderer
    num_envs: int

    async def make_envs(self):
        return [EnvFromMessageEnv(self.renderer, self.kind()) for _ in range(self.num_envs)]


def check(kind):
    builder = AnimalsGroupBuilder(kind, load_renderer("tiny", "qwen3_instruct"), num_envs=2)
    return check_env(builder, valid_actions=["cat", "dog", "cow"])


if __name__ == "__main__":
    try:
        check(AnimalsEnv)
    except EnvCheckError as error:
        print(error)
    print(check(MendedAnimalsEnv))
