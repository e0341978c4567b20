"""The code of docs/journal.md runs as it stands there, and its format is that of the files."""

import re
from pathlib import Path

from tinker_rl.rl.journal.frames import FILE_HEADER

TEXT = (Path(__file__).parents[3] / "docs" / "journal.md").read_text(encoding="utf-8")


def test_the_example_lists_steps_and_what_waits(records, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "tinker-runs" / "arithmetic"
    folder.mkdir(parents=True)
    made = [records.finished(0), records.finished(1), records.commit(0, 0, weight_hash="abc")]
    records.written(folder / "journal.bin", *made)
    monkeypatch.setenv("HOME", str(tmp_path))
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(compile(example, "docs/journal.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["0 (0,) abc", "1 none None"]


def test_the_beginning_of_a_file_is_as_described():
    assert repr(FILE_HEADER.decode())[1:-1] in TEXT
