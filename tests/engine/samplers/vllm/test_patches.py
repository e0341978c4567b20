import torch
from hypothesis import given
from hypothesis import strategies as st

from tinker_rl.engine.samplers.vllm.patches import add_adapters, group_rows


@given(
    st.lists(st.integers(-1, 2), min_size=1, max_size=9),
    st.sampled_from([1.0, 0.5]),
    st.integers(0, 3),
)
def test_each_row_gets_its_own_adapter_and_a_row_without_gets_none(slots, scale, padding):
    """A vocabulary may be padded: the output is then wider than the adapter."""
    torch.manual_seed(len(slots))
    rows, inputs, outputs, rank = len(slots), 5, 7, 2
    x = torch.randn(rows, inputs)
    a, b = torch.randn(3, 1, rank, inputs), torch.randn(3, 1, outputs, rank)
    before = torch.randn(rows, outputs + padding)
    out = before.clone()
    add_adapters(out, x, a, b, scale, group_rows(torch.tensor(slots)))
    for row, slot in enumerate(slots):
        expected = before[row].clone()
        if slot >= 0:
            expected[:outputs] += scale * (b[slot, 0] @ (a[slot, 0] @ x[row]))
        torch.testing.assert_close(out[row], expected)


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=20))
def test_groups_are_all_rows_with_an_adapter_once(slots):
    rows = []
    for slot, group in group_rows(torch.tensor(slots)):
        indices = list(range(len(slots)))[group] if isinstance(group, slice) else group.tolist()
        assert all(slots[index] == slot for index in indices)
        rows += indices
    assert sorted(rows) == [index for index, slot in enumerate(slots) if slot >= 0]
