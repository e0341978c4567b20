"""Whether model, learner and sampler fit a device, before anything is downloaded."""

from tinker_rl.memory_plan.changes import Change, find_changes, with_setting
from tinker_rl.memory_plan.learner import LearnerMemory, adapter_parameters, learner_memory
from tinker_rl.memory_plan.plan import MemoryPlan, plan_memory
from tinker_rl.memory_plan.sampler import SamplerMemory, sampler_memory
from tinker_rl.memory_plan.setup import Device, Dtype, SamplerConfig, Setup, gigabytes

__all__ = [
    "Change",
    "Device",
    "Dtype",
    "LearnerMemory",
    "MemoryPlan",
    "SamplerConfig",
    "SamplerMemory",
    "Setup",
    "adapter_parameters",
    "find_changes",
    "gigabytes",
    "learner_memory",
    "plan_memory",
    "sampler_memory",
    "with_setting",
]
