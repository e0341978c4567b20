"""What the broken environments are made from: two that are well."""

import json
from functools import partial

from tinker_rl.envs import (
    Env,
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    ProblemGroupBuilder,
    StepResult,
    load_renderer,
)
from tinker_rl.renderers import ToolCall, get_text_content
from tinker_rl.types import ModelInput

END = 0


class Counting(Env):
    """Shows how many turns there were, and wants to be told."""

    def __init__(self, turns=2):
        self.turns = turns
        self.turn = 0
        self.tokens = []

    async def initial_observation(self):
        self.tokens = [self.turns]
        return ModelInput.from_ints(self.tokens), self.stop()

    async def step(self, action, *, extra=None):
        if self.turn == self.turns:
            raise RuntimeError("the game is over")
        self.turn += 1
        self.extend(action)
        return StepResult(
            reward=self.reward(action),
            episode_done=self.turn == self.turns,
            next_observation=ModelInput.from_ints(self.tokens),
            next_stop_condition=self.stop(),
            metrics=self.metrics(action),
            logs=self.logs(action),
        )

    def extend(self, action):
        self.tokens += [*action, self.turn]

    def stop(self):
        return [END]

    def reward(self, action):
        return float(action == [self.turn, END])

    def metrics(self, action):
        return {"length": len(action)}

    def logs(self, action):
        return {"said": str(action)}


class Talk(MessageEnv):
    """Wants to hear a word, `turns` times."""

    def __init__(self, turns=2):
        self.left = turns
        self.messages = [{"role": "user", "content": "Say 7."}]

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        self.left -= 1
        self.messages += [message, {"role": "user", "content": "Again."}]
        reward = self.reward(get_text_content(message))
        return MessageStepResult(reward, self.left == 0, list(self.messages))

    def reward(self, text):
        return float(text == "7")


def renderer():
    """The chat format of `tiny`."""
    return load_renderer("tiny", "qwen3_instruct")


def group(env, *args, size=2):
    """A group of an environment."""
    return ProblemGroupBuilder(partial(env, *args), size, "broken")


def talk(env, size=2):
    """A group of conversations."""
    return TalkBuilder(env, size)


class TalkBuilder(EnvGroupBuilder):
    """Makes conversations of one kind."""

    def __init__(self, env, size=2):
        self.env = env
        self.size = size
        self.renderer = renderer()

    async def make_envs(self):
        return [EnvFromMessageEnv(self.renderer, self.env()) for _ in range(self.size)]


class CountingBuilder(EnvGroupBuilder):
    """Makes counting games."""

    def __init__(self, size=2):
        self.size = size

    async def make_envs(self):
        return [Counting() for _ in range(self.size)]


class Shelf(MessageEnv):
    """Wants the sum of 17 and 25 under "x" and then to hear it, with as few calls as will do."""

    def __init__(self):
        self.kept = {}
        self.num_calls = self.turn = 0
        self.messages = [
            {"role": "system", "content": "Tools: add(a, b), put(key, value), get(key)."},
            {"role": "user", "content": "Put 17 + 25 under x, and say it."},
        ]

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        self.turn += 1
        self.messages.append(message)
        calls = [call.function for call in message.get("tool_calls", ())]
        self.num_calls += len(calls)
        answers = [self.answer(call.name, call.arguments) for call in calls]
        answers += ["error: no call"] * len(message.get("unparsed_tool_calls", ()))
        self.messages += [{"role": "tool", "content": answer} for answer in answers]
        said = not answers and "42" in get_text_content(message)
        is_over = not answers or self.turn == 6
        return MessageStepResult(self.reward(said), is_over, self.shown())

    def reward(self, said):
        return float(said and self.kept.get("x") == "42") * min(1.0, 2 / max(self.num_calls, 1))

    def shown(self):
        return list(self.messages)

    def answer(self, name, arguments):
        try:
            given = self.read(arguments)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            return "error: no object"
        tool = {"add": self.add, "put": self.put, "get": self.get}.get(name)
        return "error: no such tool" if tool is None else tool(given)

    def read(self, arguments):
        return json.loads(arguments)

    def add(self, given):
        numbers = given.get("a"), given.get("b")
        if not all(type(n) is int and abs(n) < 10**9 for n in numbers):
            return "error: two numbers, not too large"
        return str(sum(numbers))

    def put(self, given):
        if not isinstance(given.get("key"), str):
            return "error: the key is a text"
        text = str(given.get("value"))[:50].encode(errors="replace").decode()
        self.kept[given["key"]] = text  # no half of a character, which no prompt can hold
        return "ok"

    def get(self, given):
        key = given.get("key")
        return self.kept.get(key, "nothing") if isinstance(key, str) else "error: the key is a text"


def called(name, **arguments):
    """A message that calls a tool."""
    body = ToolCall.FunctionBody(name=name, arguments=json.dumps(arguments))
    return {"role": "assistant", "content": "", "tool_calls": [ToolCall(function=body)]}


SHELF_CALLS = [
    called("add", a=17, b=25),
    called("put", key="x", value="42"),
    called("get", key="x"),
    "42",
]
SHELF_TOOLS = [
    {
        "name": "add",
        "description": "The sum.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        },
    },
    {
        "name": "put",
        "description": "Keeps a value.",
        "parameters": {
            "type": "object",
            "properties": {"key": {"type": "string"}, "value": {"type": "string"}},
        },
    },
]
