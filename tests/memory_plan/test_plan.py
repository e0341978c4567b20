import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl.engine.learner import LearnerConfig
from tinker_rl.engine.samplers.embedded import EmbeddedSamplerConfig
from tinker_rl.engine.samplers.vllm.config import VllmSamplerConfig
from tinker_rl.lineup import LINEUP
from tinker_rl.memory_plan import Device, plan_memory, with_setting
from tinker_rl.types import LoraConfig

from .conftest import GB, make_setup

names = st.sampled_from([entry.name for entry in LINEUP])
samplers = st.one_of(
    st.none(),
    st.builds(EmbeddedSamplerConfig, max_cache_gb=st.sampled_from([1.0, 4.0, 16.0])),
    st.builds(
        VllmSamplerConfig,
        memory_share=st.none() | st.integers(5, 95).map(lambda percent: percent / 100),
        max_model_len=st.none() | st.sampled_from([2048, 16384]),
        max_loras=st.integers(1, 8),
    ),
)
learners = st.builds(
    LearnerConfig,
    token_budget=st.none() | st.integers(512, 65536),
    gradient_checkpointing=st.booleans(),
)
devices = st.builds(
    lambda kind, total, used, count, keeps: Device(
        kind=kind,
        total_bytes=total * GB,
        free_bytes=max(0, total - used) * GB,
        count=count if kind == "cuda" else 1,
        keeps_freed=keeps and kind == "cpu",
    ),
    st.sampled_from(["cuda", "cpu"]),
    st.integers(2, 640),
    st.integers(0, 20),
    st.sampled_from([1, 2, 8]),
    st.booleans(),
)
loras = st.builds(LoraConfig, rank=st.sampled_from([1, 32, 256]), train_mlp=st.booleans())


@st.composite
def setups(draw):
    device = draw(devices)
    return make_setup(
        draw(names),
        device=device,
        dtype="bfloat16" if device.kind == "cuda" else "float32",
        learner=draw(learners),
        sampler=draw(samplers),
        lora=draw(loras),
    )


@given(setup=setups())
@settings(deadline=None)
def test_parts_sum_up_and_what_fits_is_no_more_than_what_is_free(setup):
    plan = plan_memory(setup)
    sampler = 0 if plan.sampler is None else plan.sampler.total
    assert plan.needed_bytes == plan.learner.total + sampler
    assert plan.fits == (not plan.problems)
    if plan.fits:
        assert plan.needed_bytes <= setup.device.free_bytes
        assert plan.changes == ()
        assert plan.sampler is None or plan.sampler.cache >= plan.sampler.least_cache


@given(setup=setups(), more=st.integers(1, 600 * GB))
@settings(deadline=None)
def test_more_memory_never_makes_what_fits_not_fit(setup, more):
    device = setup.device
    larger = Device(
        kind=device.kind,
        total_bytes=device.total_bytes + more,
        free_bytes=device.free_bytes + more,
        count=device.count,
        keeps_freed=device.keeps_freed,
    )
    if plan_memory(setup).fits:
        assert plan_memory(make_like(setup, larger)).fits


def make_like(setup, device):
    return make_setup(
        setup.model_name,
        device=device,
        dtype=setup.dtype,
        learner=setup.learner,
        sampler=setup.sampler,
        lora=setup.lora,
    )


@given(setup=setups())
@settings(deadline=None)
def test_the_changes_make_it_fit_and_none_is_needless(setup):
    changes = plan_memory(setup).changes
    changed = setup
    for change in changes:
        changed = with_setting(changed, change.setting, change.value)
        assert change.effect
    if changes:
        assert plan_memory(changed).fits
        needless = changes[:-1]
        for change in needless:
            setup = with_setting(setup, change.setting, change.value)
        assert not plan_memory(setup).fits


def test_vllm_without_room_for_its_cache_is_said_so(setup_of):
    config = VllmSamplerConfig(memory_share=0.2)
    setup = setup_of(sampler=config, learner=LearnerConfig(gradient_checkpointing=True))
    plan = plan_memory(setup)
    assert len(plan.problems) == 1
    assert "vLLM has no room for keys and values: memory_share=0.2" in plan.problems[0]
    assert [change.setting for change in plan.changes] == ["memory_share"]
    assert plan.cache_sequences == 0


def test_a_learner_that_vllm_leaves_no_room_is_said_so(setup_of):
    config = VllmSamplerConfig(memory_share=0.9)
    setup = setup_of(sampler=config, learner=LearnerConfig(gradient_checkpointing=True))
    plan = plan_memory(setup)
    assert len(plan.problems) == 1
    assert "more than what vLLM leaves" in plan.problems[0]
    assert [change.setting for change in plan.changes] == ["memory_share"]


def test_one_sequence_of_the_whole_context_must_fit_the_cache(setup_of):
    learner = LearnerConfig(gradient_checkpointing=True, token_budget=2048)
    setup = setup_of("Qwen/Qwen3-4B-Instruct-2507", 40, learner=learner)  # 262144 tokens: 38.7 GB
    assert [change.setting for change in plan_memory(setup).changes] == [
        "max_model_len",
        "memory_share",
    ]


def test_the_model_of_the_first_run_fits_a_gpu_of_80_gb_with_two_changes(setup_of):
    plan = plan_memory(setup_of("meta-llama/Llama-3.1-8B"))
    assert [change.setting for change in plan.changes] == ["gradient_checkpointing", "memory_share"]


@pytest.mark.parametrize("gb", [16, 24, 80, 141])
def test_a_smaller_model_is_named_where_nothing_else_helps(setup_of, gb):
    plan = plan_memory(setup_of("meta-llama/Llama-3.1-70B", gb))
    assert plan.changes[0].setting == "model_name"


def test_experts_are_refused_with_adapters_on_them(setup_of):
    plan = plan_memory(setup_of("Qwen/Qwen3-30B-A3B", 600))
    assert "train_mlp" in plan.problems[0]
    assert plan.changes[0].setting == "train_mlp"


def test_gpus_that_are_there_are_used_before_the_context_is_cut(setup_of):
    device = Device(kind="cuda", total_bytes=80 * GB, free_bytes=80 * GB, count=2)
    learner = LearnerConfig(gradient_checkpointing=True, token_budget=4096)
    setup = setup_of("meta-llama/Llama-3.1-8B", device=device, learner=learner)
    assert "tensor_parallel_size" not in [c.setting for c in plan_memory(setup).changes]
    device = Device(kind="cuda", total_bytes=40 * GB, free_bytes=40 * GB, count=2)
    setup = setup_of("meta-llama/Llama-3.1-8B", device=device, learner=learner)
    assert "tensor_parallel_size" in [c.setting for c in plan_memory(setup).changes]


def test_an_unknown_option_is_an_error(setup_of):
    with pytest.raises(ValueError, match="expected an option"):
        with_setting(setup_of(), "tokens", 1)
