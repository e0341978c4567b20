"""cleanup averages over the episodes, and there may have been none."""

from broken.base import CountingBuilder

PROPERTY = "cleanup_early"


class Averaging(CountingBuilder):
    lengths = ()

    async def compute_group_rewards(self, trajectory_group, env_group):
        self.lengths = [len(t.transitions) for t in trajectory_group]
        return await super().compute_group_rewards(trajectory_group, env_group)

    async def cleanup(self):
        self.mean = sum(self.lengths) / len(self.lengths)


class AveragingSome(Averaging):
    async def cleanup(self):
        if self.lengths:
            await super().cleanup()


broken, mended = Averaging, AveragingSome
