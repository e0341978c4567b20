"""The example of docs/actors.md runs."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "actors.md"


def test_the_example_prints_what_it_says(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == "42\n"
