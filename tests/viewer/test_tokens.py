import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from tinker_rl.viewer.tokens import load_token_text


@pytest.fixture(scope="module")
def tiny():
    text, note = load_token_text("tiny")
    assert note is None
    return text


EVERY_BYTE = "".join(map(chr, [*range(0x800), 0x1000, 0xFFFF, *range(0x10000, 0x10FFFF, 0x1000)]))


@given(words=st.text(st.characters(exclude_categories=["Cs"])))
@example(words=EVERY_BYTE)
def test_the_text_of_tokens_is_the_text_they_came_from(make, tiny, words):
    tokens = make.tokenizer.encode(words)
    assert tiny.decode(tokens) == words
    pieces = [tiny.text_of(token) for token in tokens]
    raw = b"".join(bytes(p) if isinstance(p, list) else p.encode() for p in pieces)
    assert raw.decode() == words


def test_a_token_that_is_no_text_alone_is_given_by_its_bytes(make, tiny):
    tokens = make.tokenizer.encode("\N{SNOWMAN}")
    assert len(tokens) > 1
    found = [byte for token in tokens for byte in tiny.text_of(token)]
    assert found == [0xE2, 0x98, 0x83]


def test_special_tokens_are_shown_and_known(make, tiny):
    (end,) = make.tokenizer.encode("<|im_end|>")
    assert tiny.text_of(end) == "<|im_end|>"
    assert end in tiny.special


@pytest.mark.parametrize("token", [-1, 10**6, 2**40])
def test_an_id_that_no_vocabulary_has_is_shown_as_such(tiny, token):
    assert tiny.text_of(token) == f"<{token}>"


def test_blanks_and_bytes_of_sentence_pieces_are_kept(tmp_path):
    vocabulary = {"<unk>": 0, "\u2581two": 1, "<0xE2>": 2, "s": 3}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    made.decoder = decoders.Metaspace()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text("{}")
    text, note = load_token_text(str(tmp_path))
    assert note is None
    assert [text.text_of(token) for token in range(1, 4)] == [" two", [0xE2], "s"]


@pytest.mark.parametrize("name", [None, "", "no-such-model", "no/such-model"])
def test_without_a_vocabulary_ids_are_shown_and_a_note_says_why(name):
    text, note = load_token_text(name)
    assert "token ids are shown" in note
    assert text.text_of(7) == "<7>"


def test_nothing_of_the_viewer_loads_torch():
    script = (
        "import sys; from tinker_rl.viewer import RunReader\n"
        "from tinker_rl.viewer.tokens import load_token_text; load_token_text('tiny')\n"
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
