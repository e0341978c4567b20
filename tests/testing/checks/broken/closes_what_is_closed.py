"""Every environment closes its connection, and the builder closes all again."""

from broken.base import Counting, CountingBuilder

PROPERTY = "cleanup"


class Connection:
    def __init__(self):
        self.is_open = True

    def close(self):
        if not self.is_open:
            raise RuntimeError("the connection is closed")
        self.is_open = False


class Connected(Counting):
    def __init__(self):
        super().__init__()
        self.connection = Connection()

    async def step(self, action, *, extra=None):
        result = await super().step(action, extra=extra)
        if result.episode_done:
            self.connection.close()
        return result


class ClosesAll(CountingBuilder):
    def __init__(self, size=2):
        super().__init__(size)
        self.envs = []

    async def make_envs(self):
        self.envs = [Connected() for _ in range(self.size)]
        return self.envs

    async def cleanup(self):
        for env in self.envs:
            env.connection.close()


class ClosesOpenOnes(ClosesAll):
    async def cleanup(self):
        for env in self.envs:
            if env.connection.is_open:
                env.connection.close()


broken, mended = ClosesAll, ClosesOpenOnes
