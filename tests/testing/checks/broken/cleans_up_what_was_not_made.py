"""cleanup counts on what make_envs sets, and make_envs may have failed."""

from broken.base import CountingBuilder

PROPERTY = "cleanup_early"


class Server:
    def stop(self):
        self.is_stopped = True


class Served(CountingBuilder):
    async def make_envs(self):
        self.server = Server()
        return await super().make_envs()

    async def cleanup(self):
        self.server.stop()


class MaybeServed(Served):
    server = None

    async def cleanup(self):
        if self.server is not None:
            self.server.stop()


broken, mended = Served, MaybeServed
