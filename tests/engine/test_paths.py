from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinker_rl.engine.paths import CheckpointPath, check_name, check_run_id, parse_path
from tinker_rl.errors import CheckpointError

ROOT = Path("/store/runs")
nasty = st.text(alphabet="ab0./\\:~-_%\0\n é", max_size=12)
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,20}", fullmatch=True)
runs = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,20}", fullmatch=True)
kinds = st.sampled_from(["weights", "sampler_weights"])


def stays_inside(path: CheckpointPath) -> bool:
    folder = ROOT / path.run_id / path.kind / path.name
    return Path(*folder.parts).resolve() == folder and folder.relative_to(ROOT).parts == (
        path.run_id,
        path.kind,
        path.name,
    )


@given(run_id=runs, kind=kinds, name=names)
def test_a_path_says_what_it_was_made_of(run_id, kind, name):
    path = parse_path(f"tinker://{run_id}/{kind}/{name}")
    assert path == CheckpointPath(run_id, kind, name)
    assert str(path) == f"tinker://{run_id}/{kind}/{name}"
    assert path.checkpoint_id == f"{kind}/{name}"
    assert path.checkpoint_type == ("training" if kind == "weights" else "sampler")
    assert stays_inside(path)


@given(run_id=nasty | runs, kind=nasty | kinds, name=nasty | names)
@example("..", "weights", "a")
@example("a", "weights", "..")
@example("a", "weights", ".old-a")
@example("a", "..", "b")
@example("a", "weights", "b\n")
@example("a/../..", "weights", "b")
@settings(max_examples=300)
def test_no_path_leads_out_of_the_store(run_id, kind, name):
    text = f"tinker://{run_id}/{kind}/{name}"
    try:
        path = parse_path(text)
    except CheckpointError:
        return
    assert str(path) == text
    assert stays_inside(path)
    assert not path.name.startswith(".")  # those are the store's own


@given(text=st.text(max_size=30) | nasty.map("tinker://a/".__add__))
@example("weights/a")
@example("tinker:/a/weights/b")
@example("https://a/weights/b")
def test_anything_else_is_refused_with_what_was_expected(text):
    with pytest.raises(CheckpointError, match=r"expected .*; got "):
        parse_path(text)


@given(name=nasty)
@example("a" * 128)
@example("a" * 129)
@example("")
def test_a_name_that_is_taken_is_one_part_of_a_path(name):
    try:
        check_name(name)
    except CheckpointError:
        return
    assert Path(name).name == name
    assert name not in (".", "..")
    assert 1 <= len(name) <= 128


@pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "/a", "a" * 193, "a\n"])
def test_a_run_id_is_one_part_of_a_path(run_id):
    with pytest.raises(CheckpointError, match="run id"):
        check_run_id(run_id)
