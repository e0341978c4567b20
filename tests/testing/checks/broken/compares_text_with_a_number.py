"""The policy writes text, and the answer is a number: they are never equal."""

from broken.base import group, renderer

from tinker_rl.envs import ProblemEnv

PROPERTY = "reference_answer"
SAYS = "got wrong for '5', '\\\\boxed{5}', "


class Number(ProblemEnv):
    answer = 5

    def get_question(self):
        return "How many are 2 and 3?"

    def check_answer(self, sample_str):
        return sample_str.strip() == self.answer

    def check_format(self, sample_str):
        return sample_str.strip().isdecimal()

    def get_reference_answer(self):
        return str(self.answer)


class Text(Number):
    answer = "5"


def broken():
    return group(Number, renderer())


def mended():
    return group(Text, renderer())
