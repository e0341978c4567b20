"""The braces of a box are taken for a place to fill in."""

from broken.base import group, renderer

from tinker_rl.envs import ProblemEnv, extract_boxed

PROPERTY = "starts"


class Braces(ProblemEnv):
    question = "What is {} + {}? Answer in \\boxed{}."

    def __init__(self, a, b, renderer):
        super().__init__(renderer)
        self.a, self.b = a, b

    def get_question(self):
        return self.question.format(self.a, self.b)

    def check_answer(self, sample_str):
        return extract_boxed(sample_str) == self.get_reference_answer()

    def check_format(self, sample_str):
        return extract_boxed(sample_str) is not None

    def get_reference_answer(self):
        return str(self.a + self.b)


class Doubled(Braces):
    question = "What is {} + {}? Answer in \\boxed{{}}."


def broken():
    return group(Braces, 2, 3, renderer())


def mended():
    return group(Doubled, 2, 3, renderer())
