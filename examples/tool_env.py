"""An environment with tools: the policy calls a calculator and a notebook, turn by turn.

python examples/tool_env.py

A policy calls tools with anything: arguments that are no JSON, no object, of the wrong type, far
too large; tools that there are not; many calls at once. Each is answered by a message that says
what was wrong, and nothing is raised.
"""

import json
from dataclasses import dataclass

from tinker_rl.envs import (
    EnvFromMessageEnv,
    EnvGroupBuilder,
    MessageEnv,
    MessageStepResult,
    StopReason,
    load_renderer,
)
from tinker_rl.renderers import Renderer, ToolCall, ToolSpec, get_text_content
from tinker_rl.testing import check_env

MOST_TURNS = 6
MOST_CALLS = 4
"""Calls of one message; what is more is refused."""


def tool(name, description, **types):
    """A tool for the prompt, all of whose parameters are required."""
    properties = {each: {"type": kind} for each, kind in types.items()}
    parameters = {"type": "object", "properties": properties, "required": list(types)}
    return ToolSpec(name=name, description=description, parameters=parameters)


class NotebookEnv(MessageEnv):
    """Two numbers are to be added, and the sum to be noted and then said."""

    tools = (
        tool("add", "Adds two whole numbers.", a="integer", b="integer"),
        tool("put", "Notes a text under a key.", key="string", value="string"),
        tool("get", "Reads what is noted under a key.", key="string"),
    )

    def __init__(self, a, b):
        self.sum = str(a + b)
        self.notes = {}
        self.num_turns = self.num_calls = self.num_errors = 0
        task = f"Add {a} and {b}, note the result under the key sum, and then say it."
        self.messages = [{"role": "user", "content": task}]

    async def initial_observation(self):
        return list(self.messages)

    async def step(self, message):
        self.num_turns += 1
        answers = self.answers(message)
        self.messages += [message, *answers]
        if answers and self.num_turns < MOST_TURNS:
            return MessageStepResult(0.0, False, list(self.messages))
        right = self.notes.get("sum") == self.sum == get_text_content(message).strip()
        return MessageStepResult(
            reward=float(right),
            episode_done=True,
            next_messages=list(self.messages),
            metrics={"right": right, "calls": self.num_calls, "errors": self.num_errors},
            stop_reason=StopReason.MAX_TURNS if answers else None,
        )

    def answers(self, message):
        """A message of role `tool` for each call, also for what was meant as one."""
        calls = message.get("tool_calls", [])
        texts = [self.answer(call.function) for call in calls[:MOST_CALLS]]
        texts += [self.error(f"at most {MOST_CALLS} calls at a time") for _ in calls[MOST_CALLS:]]
        texts += [self.error(call.error) for call in message.get("unparsed_tool_calls", [])]
        return [{"role": "tool", "content": text} for text in texts]

    def answer(self, function):
        """What a tool answers: text, whatever it was called with."""
        self.num_calls += 1
        tools = {"add": self.add, "put": self.put, "get": self.get}
        if function.name not in tools:
            return self.error(f"no such tool; there are {', '.join(tools)}")
        try:
            return tools[function.name](arguments_of(function))
        except (ValueError, RecursionError) as error:  # the latter from brackets without end
            return self.error(str(error))

    def error(self, text):
        self.num_errors += 1
        return f"error: {text}"

    def add(self, arguments):
        a, b = arguments.get("a"), arguments.get("b")
        if not all(type(n) is int and abs(n) < 10**9 for n in (a, b)):
            raise ValueError("expected whole numbers a and b of up to nine digits")
        return str(a + b)

    def put(self, arguments):
        key, value = arguments.get("key"), arguments.get("value")
        if not all(isinstance(text, str) and len(text) <= 40 for text in (key, value)):
            raise ValueError("expected key and value, texts of up to 40 characters")
        self.notes[key] = value
        return "noted"

    def get(self, arguments):
        key = arguments.get("key")
        if not isinstance(key, str) or key not in self.notes:
            raise ValueError("nothing is noted under that key")
        return json.dumps(self.notes[key])  # in ASCII: half a character cannot be tokenized


def arguments_of(function):
    """The arguments of a call. Raises ValueError if they are no JSON object."""
    arguments = json.loads(function.arguments)
    if not isinstance(arguments, dict):
        raise ValueError("expected a JSON object of arguments")
    return arguments


@dataclass(frozen=True)
class NotebookGroupBuilder(EnvGroupBuilder):
    renderer: Renderer
    a: int = 17
    b: int = 25
    num_envs: int = 2

    async def make_envs(self):
        return [
            EnvFromMessageEnv(self.renderer, NotebookEnv(self.a, self.b))
            for _ in range(self.num_envs)
        ]

    def logging_tags(self):
        return ["notebook"]


def make_group(renderer_name="qwen3_instruct"):
    return NotebookGroupBuilder(load_renderer("tiny", renderer_name))


def call(name, **arguments):
    """A message that calls a tool."""
    function = ToolCall.FunctionBody(name=name, arguments=json.dumps(arguments))
    return {"role": "assistant", "content": "", "tool_calls": [ToolCall(function=function)]}


SOLUTION = [call("add", a=17, b=25), call("put", key="sum", value="42"), "42"]


def check(renderer_name="qwen3_instruct", **options):
    """Calls of the tools with anything that is known to break them, and the solution."""
    return check_env(
        lambda: make_group(renderer_name),
        valid_episodes=[SOLUTION],
        max_turns=MOST_TURNS,
        reward_range=(-1, 1),  # -1 for a message that cannot be read
        **options,
    )


if __name__ == "__main__":
    print(check())
