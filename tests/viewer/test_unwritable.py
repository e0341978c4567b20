"""The error about a file that could not be written says what to do about it."""

import errno
import os

import pytest

from tinker_rl.viewer.unwritable import unwritable


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "This user has no permission to write in {}: choose another file with -o."),
        (errno.ENOSPC, "Make room, or choose another file with -o."),
        (errno.ENOENT, "Choose another file with -o."),
        (errno.EISDIR, "Choose another file with -o."),
    ],
)
def test_what_to_do_depends_on_what_is_wrong(tmp_path, number, advice):
    error = unwritable(tmp_path / "view.html", OSError(number, os.strerror(number)), "-o")
    assert str(error) == (
        f"{tmp_path / 'view.html'}: expected a file that can be written; got "
        f"{os.strerror(number)}. {advice.format(tmp_path)}"
    )
    gone = unwritable(tmp_path / "no" / "x", OSError(errno.ENOENT, "gone"), "-o")
    assert f"got gone. Make the folder {tmp_path / 'no'}, or choose another file" in str(gone)
