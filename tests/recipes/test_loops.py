"""The flat recipes run, learn, and refuse what they cannot read."""

import json

import pytest

from tinker_rl.errors import DataError, UnknownNameError
from tinker_rl.recipes import rl_loop, sl_loop


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_rl_loop_raises_the_share_of_right_answers(tmp_path, capsys):
    config = rl_loop.Config(
        batch_size=16, group_size=8, max_steps=8, learning_rate=2e-3, log_path=str(tmp_path)
    )
    rl_loop.main(config)
    accuracy = [row["accuracy"] for row in rows(tmp_path)]
    assert len(accuracy) == 8
    assert sum(accuracy[-2:]) / 2 > sum(accuracy[:2]) / 2 + 0.05
    assert all(row["sync/max_abs_logprob_diff"] < 1e-3 for row in rows(tmp_path))
    assert capsys.readouterr().out.startswith("sampler embedded: it suits tiny\nstarting the samp")


def test_rl_loop_asks_gsm8k(tmp_path, shared_data):
    rl_loop.main(
        rl_loop.Config(
            dataset="gsm8k",
            data_path=str(shared_data / "gsm8k"),
            batch_size=2,
            group_size=2,
            max_steps=1,
            max_tokens=8,
            log_path=str(tmp_path),
        )
    )
    assert rows(tmp_path)[0]["reward"] <= 1


def test_rl_loop_names_the_data_sets_it_knows():
    with pytest.raises(UnknownNameError, match="arithmetic, gsm8k"):
        rl_loop.problems_of(rl_loop.Config(dataset="mnist"))


def test_sl_loop_lowers_the_loss(tmp_path):
    sl_loop.main(sl_loop.Config(batch_size=32, max_steps=8, log_path=str(tmp_path)))
    losses = [row["train_mean_nll"] for row in rows(tmp_path)]
    assert losses[-1] < 0.8 * losses[0]


def test_sl_loop_reads_chats_and_instructions(tmp_path):
    data = tmp_path / "data.jsonl"
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    lines = [{"messages": chat}, {"instruction": "Say no.", "response": "No."}]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sl_loop.main(
        sl_loop.Config(
            data_path=str(data), batch_size=2, max_steps=2, log_path=str(tmp_path / "run")
        )
    )
    assert len(rows(tmp_path / "run")) == 2


def test_sl_loop_names_the_line_it_cannot_read(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"instruction": "a", "response": "b"}\n{"prompt": "c"}\n')
    with pytest.raises(DataError, match=r"data\.jsonl.*line 2"):
        sl_loop.main(sl_loop.Config(data_path=str(data)))
