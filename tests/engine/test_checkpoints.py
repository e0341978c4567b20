import errno
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinker_rl import LoraConfig
from tinker_rl.engine import checkpoints
from tinker_rl.engine.checkpoints import Manifest, RunRecord, Store, default_root
from tinker_rl.engine.paths import CheckpointPath
from tinker_rl.errors import CheckpointError

RUN = "abc:train:0"
PATH = CheckpointPath(RUN, "weights", "step-1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = {"adapter.bin": b"old" * 100, "optimizer.bin": b"o" * 64}
NEW = {"adapter.bin": b"new" * 150, "optimizer.bin": b"n" * 64, "more.bin": b""}


def filling(files):
    def fill(folder):
        for name, data in files.items():
            (folder / name).write_bytes(data)

    return fill


def manifest_of(path=PATH, steps=3):
    return Manifest(
        run_id=path.run_id,
        kind=path.kind,
        base_model="tiny",
        lora_config=LoraConfig(rank=4),
        steps=steps,
        created=NOW,
    )


def new_store(root, run_id=RUN):
    store = Store(root)
    store.save_run(
        RunRecord(
            run_id=run_id,
            base_model="tiny",
            lora_config=LoraConfig(rank=4),
            created=NOW,
            last_request=NOW,
            user_metadata={"who": "me"},
        )
    )
    return store


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path)


def contents(store, path=PATH):
    folder, manifest = store.open(path)
    return {name: (folder / name).read_bytes() for name in manifest.files}


def leftovers(store):
    return [p.name for p in store.root.rglob(".*")]


# ----------------------------------------------------------------------------------- whole or not


def test_what_was_written_is_there_with_its_description(store):
    written = store.write(PATH, manifest_of(), filling(OLD), user_metadata={"epoch": "1"})
    assert contents(store) == OLD
    assert written.tinker_path == f"tinker://{RUN}/weights/step-1"
    assert (written.checkpoint_id, written.checkpoint_type) == ("weights/step-1", "training")
    assert written.size_bytes == sum(map(len, OLD.values()))
    assert written.user_metadata == {"epoch": "1"}
    assert written.expires_at is None
    assert store.checkpoints() == store.checkpoints(RUN) == [written]
    assert store.find(str(PATH)) == (PATH, store.open(PATH)[1])
    assert leftovers(store) == []


def test_a_name_is_taken_unless_overwritten(store):
    store.write(PATH, manifest_of(), filling(OLD), user_metadata={"a": "1"})
    with pytest.raises(CheckpointError, match=r"got one that exists.*overwrite=True"):
        store.write(PATH, manifest_of(), filling(NEW))
    assert contents(store) == OLD
    written = store.write(PATH, manifest_of(steps=9), filling(NEW), overwrite=True)
    assert contents(store) == NEW
    assert store.open(PATH)[1].steps == 9
    assert written.user_metadata is None  # replaced as a whole
    assert leftovers(store) == []


class Killed(BaseException):
    pass


def write_until_killed(store, after, overwrite):
    """Write the new checkpoint; from the `after`-th system call on none is made. Whether it was."""
    calls = 0

    def dying(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > after:
                raise Killed
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("mkdir", "open", "rename", "replace", "unlink", "write_bytes"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        patch.setattr(os, "fsync", dying(os.fsync))
        patch.setattr(shutil, "rmtree", dying(shutil.rmtree))
        try:
            store.write(PATH, manifest_of(), filling(NEW), overwrite=overwrite)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_at_any_moment_leaves_the_old_checkpoint_or_the_new_one_or_nothing(
    tmp_path, overwrite
):
    for after in range(200):
        root = tmp_path / str(after)
        store = new_store(root)
        if overwrite:
            store.write(PATH, manifest_of(), filling(OLD))
        killed = write_until_killed(store, after, overwrite)
        found = Store(root)
        if listed := found.checkpoints(RUN):
            assert [c.tinker_path for c in listed] == [str(PATH)]
            assert contents(found) in ([OLD, NEW] if overwrite else [NEW])
        else:
            assert not overwrite
            with pytest.raises(CheckpointError, match="got nothing there"):
                found.open(PATH)
        found.write(PATH, manifest_of(), filling(NEW), overwrite=True)
        assert contents(found) == NEW
        found.delete(PATH)
        assert found.checkpoints() == []  # and nothing older comes back
        if not killed:
            break
    assert 10 < after < 199


@given(
    files=st.dictionaries(
        st.sampled_from(["a.bin", "b.bin", "c.bin"]), st.binary(max_size=8), max_size=3
    ),
    at=st.integers(0, 3),
    number=st.sampled_from([errno.ENOSPC, errno.EDQUOT, errno.EIO, None]),
    overwrite=st.booleans(),
)
@settings(max_examples=15)
def test_a_write_that_fails_leaves_things_as_they_were(
    tmp_path_factory, files, at, number, overwrite
):
    store = new_store(tmp_path_factory.mktemp("store"))
    if overwrite:
        store.write(PATH, manifest_of(), filling(OLD))

    def fill(folder):
        for index, (name, data) in enumerate(files.items()):
            if index == at:
                break
            (folder / name).write_bytes(data)
        raise RuntimeError("a bug") if number is None else OSError(number, os.strerror(number))

    expected = RuntimeError if number is None else CheckpointError
    with pytest.raises(expected) as caught:
        store.write(PATH, manifest_of(), fill, overwrite=overwrite)
    if number is not None:
        full = number in (errno.ENOSPC, errno.EDQUOT)
        assert ("Free some disk space" in str(caught.value)) == full
    assert leftovers(store) == []
    if overwrite:
        assert contents(store) == OLD
    else:
        assert store.checkpoints() == []
        store.write(PATH, manifest_of(), filling(NEW))


def test_an_old_checkpoint_that_a_kill_left_does_not_come_back(store):
    store.write(PATH, manifest_of(), filling(NEW))
    parent = store.root / "runs" / RUN / "weights"
    for forget in (store.delete, lambda path: store.set_ttl(path, 1)):
        shutil.copytree(parent / "step-1", parent / ".old-step-1")
        assert contents(store) == NEW
        forget(PATH)
        if forget == store.delete:
            assert store.checkpoints() == []
            store.write(PATH, manifest_of(), filling(NEW))
    assert leftovers(store) == []


def test_leftovers_of_others_are_no_checkpoints(store):
    parent = store.root / "runs" / RUN / "weights"
    (parent / ".tmp-123").mkdir(parents=True)
    (parent / ".old-step-9").mkdir()  # without a manifest: not whole
    (parent / "stray.txt").write_text("hello")
    assert store.checkpoints() == []
    store.write(PATH, manifest_of(), filling(OLD))
    assert [c.checkpoint_id for c in store.checkpoints()] == ["weights/step-1"]


# ------------------------------------------------------------------------------------ bad input


def test_a_missing_checkpoint_says_where_it_was_looked_for(store):
    with pytest.raises(CheckpointError, match=r"expected it in .*runs; got nothing there"):
        store.open(PATH)


@given(name=st.sampled_from(sorted(OLD)), at=st.integers(0, 63), flip=st.integers(1, 255))
@settings(max_examples=15)
def test_a_changed_byte_is_found(tmp_path_factory, name, at, flip):
    store = new_store(tmp_path_factory.mktemp("store"))
    store.write(PATH, manifest_of(), filling(OLD))
    file = store.open(PATH)[0] / name
    data = bytearray(file.read_bytes())
    data[at] ^= flip
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"corrupt: .* {name}"):
        store.open(PATH)


@pytest.mark.parametrize("name", sorted(OLD))
def test_a_missing_byte_or_file_is_found(store, name):
    store.write(PATH, manifest_of(), filling(OLD))
    file = store.open(PATH)[0] / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"truncated: .* {name}"):
        store.open(PATH)
    file.unlink()
    with pytest.raises(CheckpointError, match=f"truncated: .* {name}; got 0"):
        store.open(PATH)


@pytest.mark.parametrize("manifest", [None, b"", b"{}", b"[1]", b'{"run_id": 3', b"\xff"])
def test_a_folder_of_others_is_foreign(store, manifest):
    store.write(PATH, manifest_of(), filling(OLD))
    file = store.open(PATH)[0] / "manifest.json"
    file.unlink()
    if manifest is not None:
        file.write_bytes(manifest)
    with pytest.raises(CheckpointError, match=r"foreign: expected a manifest\.json"):
        store.open(PATH)
    assert store.checkpoints() == []  # one bad folder does not hide the others, nor break the list


def test_a_manifest_cannot_name_files_elsewhere(store):
    store.write(PATH, manifest_of(), filling(OLD))
    (store.root / "secret").write_bytes(b"old" * 100)
    file = store.open(PATH)[0] / "manifest.json"
    text = file.read_text().replace("adapter.bin", "../../../../secret")
    file.write_text(text)
    with pytest.raises(CheckpointError, match="foreign"):
        store.open(PATH)
    with pytest.raises(CheckpointError, match="foreign"):
        store.copy(PATH, "def:train:1", None)


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".old-x", "", "x" * 200])
def test_a_name_that_is_no_name_is_not_written(store, name):
    with pytest.raises(CheckpointError, match="checkpoint name"):
        store.write(CheckpointPath(RUN, "weights", name), manifest_of(), filling(OLD))
    assert store.checkpoints() == []


def test_a_folder_that_cannot_be_written_is_an_error_of_the_call(tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match=r"expected to write it; got .*Check the folder"):
        new_store(tmp_path)


# ---------------------------------------------------------------------------- expiry and the rest


@pytest.fixture
def clock(monkeypatch):
    """Moves the store's time."""

    def move(seconds):
        monkeypatch.setattr(checkpoints, "_now", lambda: NOW + timedelta(seconds=seconds))

    move(0)
    return move


def test_a_checkpoint_expires(store, clock):
    written = store.write(PATH, manifest_of(), filling(OLD), ttl_seconds=60)
    assert written.expires_at == NOW + timedelta(seconds=60)
    clock(59)
    assert contents(store) == OLD
    clock(60)
    for call in (store.open, store.delete, lambda path: store.set_ttl(path, None)):
        with pytest.raises(CheckpointError, match="expired"):
            call(PATH)
    store.write(PATH, manifest_of(), filling(NEW))  # its name is free again
    assert contents(store) == NEW


def test_expired_checkpoints_are_deleted_when_listed(store, clock):
    store.write(PATH, manifest_of(), filling(OLD), ttl_seconds=60)
    clock(61)
    assert store.checkpoints() == []
    assert not (store.root / "runs" / RUN / "weights" / "step-1").exists()


def test_the_time_to_live_can_be_changed(store, clock):
    store.write(PATH, manifest_of(), filling(OLD), ttl_seconds=60, user_metadata={"a": "1"})
    store.set_ttl(PATH, None)
    clock(1000)
    assert contents(store) == OLD
    store.set_ttl(PATH, 5)
    store.set_public(PATH, True)
    (found,) = store.checkpoints()
    assert found.expires_at == NOW + timedelta(seconds=1005)
    assert found.public
    assert found.user_metadata == {"a": "1"}
    clock(1005)
    assert store.checkpoints() == []


@pytest.mark.parametrize("seconds", [0, -5])
def test_a_time_to_live_is_positive(store, seconds):
    with pytest.raises(CheckpointError, match="ttl_seconds: expected 1 or more"):
        store.write(PATH, manifest_of(), filling(OLD), ttl_seconds=seconds)
    store.write(PATH, manifest_of(), filling(OLD))
    with pytest.raises(CheckpointError, match="ttl_seconds: expected 1 or more"):
        store.set_ttl(PATH, seconds)


def test_a_copy_is_a_checkpoint_of_a_run_of_its_own(store, clock):
    store.write(PATH, manifest_of(), filling(OLD), user_metadata={"a": "1"}, ttl_seconds=60)
    copy = store.copy(PATH, "def:train:1", 600)
    assert copy == CheckpointPath("def:train:1", "weights", "step-1")
    assert contents(store, copy) == OLD
    assert store.open(copy)[1].run_id == "def:train:1"
    assert store.run("def:train:1").user_metadata == {"who": "me"}
    (found,) = store.checkpoints("def:train:1")
    assert found.user_metadata == {"a": "1"}
    assert found.expires_at == NOW + timedelta(seconds=600)
    store.delete(PATH)
    assert contents(store, copy) == OLD


def test_a_copy_that_fails_leaves_no_run(store):
    store.write(PATH, manifest_of(), filling(OLD))
    with pytest.raises(CheckpointError, match="ttl_seconds"):
        store.copy(PATH, "def:train:1", 0)
    assert [run.run_id for run in store.runs()] == [RUN]
    assert contents(store) == OLD


def test_deleting_forgets_it_whole(store):
    store.write(PATH, manifest_of(), filling(OLD))
    store.delete(PATH)
    with pytest.raises(CheckpointError, match="got nothing there"):
        store.delete(PATH)
    assert store.checkpoints() == []
    assert leftovers(store) == []


def test_checkpoints_are_listed_from_the_oldest(store):
    for day, name in ((3, "c"), (1, "a"), (2, "b")):
        path = CheckpointPath(RUN, "sampler_weights", name)
        created = NOW + timedelta(days=day)
        manifest = msgspec.structs.replace(manifest_of(path), created=created)
        store.write(path, manifest, filling(OLD))
    assert [c.checkpoint_id[-1] for c in store.checkpoints()] == ["a", "b", "c"]


# ----------------------------------------------------------------------------------------- runs


def test_runs_are_listed_from_the_last_used(store):
    record = store.run(RUN)
    for number in (2, 3, 1):
        used = NOW + timedelta(days=number)
        store.save_run(msgspec.structs.replace(record, run_id=f"run{number}", last_request=used))
    assert [r.run_id for r in store.runs()] == ["run3", "run2", "run1", RUN]


@pytest.mark.parametrize("run_id", ["nobody", "..", ".", "", "a/b", "../runs/abc:train:0"])
def test_an_unknown_run_is_an_error(store, run_id):
    (store.root / "run.json").write_bytes(b"{}")  # what ".." would lead to
    with pytest.raises(CheckpointError, match="expected"):
        store.run(run_id)
    if run_id:
        with pytest.raises(CheckpointError, match="expected"):
            store.checkpoints(run_id)


def test_a_damaged_record_hides_no_other_run(store):
    for number, text in enumerate([b"", b"{}", b"\xff"]):
        folder = store.root / "runs" / f"damaged{number}"
        folder.mkdir()
        (folder / "run.json").write_bytes(text)
        with pytest.raises(CheckpointError, match="expected the record of a training run"):
            store.run(folder.name)
    assert [r.run_id for r in store.runs()] == [RUN]


def test_the_store_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TINKER_RL_HOME", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.setenv("TINKER_RL_HOME", "")
    assert default_root() == Path.home() / ".tinker_rl"
