"""The code of docs/learner.md runs."""

import re
from pathlib import Path

from tinker_rl import losses
from tinker_rl.losses import registered_losses

PAGE = Path(__file__).parents[2] / "docs" / "learner.md"


def test_the_examples_of_the_learner_run(monkeypatch, make_data, make_learner):
    monkeypatch.setattr(losses, "_registered", {})
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    found = {}
    for block in blocks:
        exec(block, found)
    assert registered_losses()["clipped_reinforce"].mask == "advantages"
    with found["service_client"] as service:
        client = service.create_lora_training_client("tiny", rank=4, seed=0, lora_alpha=16)
        data = make_data([9, 7], keys=("logprobs", "advantages"))
        output = client.forward_backward(data, "clipped_reinforce", {"limit": 3.0}).result()
        assert output.metrics["unique_tokens:sum"] == 16
        assert client.optim_step().result().metrics["grad_norm:mean"] > 0
