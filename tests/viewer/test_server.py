"""The page over HTTP: what it answers, to whom, and that it follows."""

import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from tinker_rl.errors import ConfigError
from tinker_rl.viewer import server
from tinker_rl.viewer.reader import RunReader
from tinker_rl.viewer.server import Shown, make_app, open_socket


@pytest.fixture
def run(folder, make):
    make.append(folder, make.group(0, make.simple(1.0, 0.0)), make.commit(0, 0))
    make.append_lines(folder / "metrics.jsonl", {"step": 0, "progress/batch": 0, "a": 1})
    found = RunReader(folder)
    yield found
    found.close()


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


@contextmanager
def serving(*runs, host="127.0.0.1", waiting=()):
    """A client of the application, in a server of this process."""
    sock = open_socket("127.0.0.1", 0)
    config = uvicorn.Config(make_app([*runs], host, waiting), log_level="error", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=url, trust_env=False) as client:
            yield client
    finally:
        running.should_exit = True
        thread.join()
        sock.close()


@pytest.fixture
def client(run):
    with serving(run) as client:
        yield client


def test_the_page_and_its_parts_are_served(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert '"mode":"serve"' in page.text
    assert 'data-blob="0/' not in page.text
    head = client.get("/head").json()["runs"][0]
    assert head["chunks"] == {"0": 1}
    for part in ("metrics", "evaluations", "episodes", "timeline"):
        answer = client.get(f"/blobs/0/{part}")
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["content-type"] == "application/json"
        assert isinstance(answer.json(), dict)
    episodes = client.get("/blobs/0/chunk/0").json()["episodes"]
    assert [episode["reward"] for episode in episodes] == [1.0, 0.0]


NAMES = ["0/chunk/1", "0/chunk/x", "0/chunk/-1", "0/chunk/", "0/other", "1/metrics", "x/metrics"]
NAMES += ["0/metrics/", "0/chunk/" + "9" * 30, "%C2%B2/metrics", "0/../../config.json", "0/chunk/٣"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_there_is_not_found(client, name):
    answer = client.get(f"/blobs/{name}")
    assert answer.status_code == 404
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_browsers_are_told_to_trust_nothing_else(client):
    for path in ("/", "/head", "/blobs/0/metrics", "/no-such-page"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True),
        ("LOCALHOST:8791", True),
        ("127.0.0.1:1", True),
        ("[::1]:8791", True),
        ("[::1]", True),
        ("evil.example", False),
        ("evil.example:8791", False),
        ("localhost.evil.example", False),
        ("localhost:evil", False),
        ("127.0.0.1.evil.example:80", False),
        ("", False),
    ],
)
def test_only_who_calls_the_server_by_its_name_is_answered(client, host, is_ours):
    for path in ("/", "/head", "/blobs/0/episodes"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == (200 if is_ours else 421)
        assert is_ours or "gone" not in answer.text


def test_another_interface_has_a_name_of_its_own(run):
    with serving(run, host="192.0.2.7") as client:
        assert client.get("/head", headers={"host": "192.0.2.7:1"}).status_code == 200
        assert client.get("/head", headers={"host": "192.0.2.8:1"}).status_code == 421
    with serving(run, host="0.0.0.0") as client:
        assert client.get("/head", headers={"host": "any.example"}).status_code == 200


def test_a_run_that_goes_on_is_followed(run, folder, make, monkeypatch):
    monkeypatch.setattr(server, "_SECONDS_BETWEEN_POLLS", 0.0)
    monkeypatch.setattr(server, "_SHARE", math.inf)
    with serving(run) as client:
        before = client.get("/head").json()["runs"][0]
        rows = client.get("/blobs/0/metrics").json()
        make.append_lines(folder / "metrics.jsonl", {"step": 1, "progress/batch": 1, "a": 2})
        make.append(folder, make.group(1, make.simple(0.5)))
        after = client.get("/head").json()["runs"][0]
        assert after["generation"] == before["generation"]
        assert {p for p in after["revision"] if after["revision"][p] > before["revision"][p]} == {
            "metrics",
            "episodes",
        }
        assert client.get("/blobs/0/metrics").json()["steps"] == [*rows["steps"], 1]
        assert client.get("/blobs/0/episodes").json()["group"] == [0, 0, 1]
        assert len(client.get("/blobs/0/chunk/0").json()["episodes"]) == 3


def test_a_folder_is_looked_at_once_a_second_however_many_pages_there_are(run, folder, make):
    clock = Clock()
    shown = Shown([run], clock)

    def count():
        return shown.head()["runs"][0]["counts"]["episodes"]

    assert count() == 2
    make.append(folder, make.group(1, make.simple(0.5)))
    clock.now = 0.9
    assert [count() for _ in range(5)] == [2] * 5
    clock.now = 1.0
    assert count() == 3


def test_a_folder_that_takes_long_to_read_is_read_less_often(run, folder, make):
    clock = Clock()

    class Slow:
        """The run, on a slow disk."""

        num_polls = 0

        def __getattr__(self, name):
            return getattr(run, name)

        def poll(self):
            self.num_polls += 1
            clock.now += 3.0
            return run.poll()

    slow = Slow()
    shown = Shown([slow], clock)
    shown.head()["runs"]
    for clock.now in (10.0, 29.9):
        shown.head()["runs"]
    assert slow.num_polls == 1
    clock.now = 30.0
    shown.head()["runs"]
    assert slow.num_polls == 2


def test_a_part_that_did_not_change_is_not_made_again(run, folder, make):
    clock = Clock()
    shown = Shown([run], clock)
    first = shown.blob("0", "chunk/0")
    assert shown.blob("0", "chunk/0") is first
    make.append(folder, make.group(1, make.simple(0.5)))
    clock.now = 2.0
    assert shown.blob("0", "chunk/0") != first
    other = shown.blob("0", "metrics")
    make.append(folder, make.start(0))
    clock.now = 4.0
    assert shown.blob("0", "metrics") == other


def test_a_port_that_is_taken_is_refused_if_it_was_asked_for_and_passed_over_if_not(monkeypatch):
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"expected one that is free.*got {port}"):
            open_socket("127.0.0.1", port)
        monkeypatch.setattr(server, "DEFAULT_PORT", port)
        with open_socket("127.0.0.1", None) as other:
            assert other.getsockname()[1] not in (0, port)


def test_until_a_run_begins_the_page_says_where_it_is_waited_for(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_SECONDS_BETWEEN_POLLS", 0.0)
    monkeypatch.setattr(server, "_SHARE", math.inf)
    later = tmp_path / "<b>later"
    with serving(waiting=[later, tmp_path / "file.txt"]) as client:
        page = client.get("/")
        assert f"<li>{tmp_path}/&lt;b&gt;later</li>" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421
        assert client.get("/blobs/0/metrics").status_code == 404
        assert client.get("/head").json()["runs"] == []
        later.mkdir()
        (tmp_path / "file.txt").touch()
        assert client.get("/head").json()["runs"] == []
        (later / "config.json").write_text('{"log_path": "later"}')
        head = client.get("/head").json()
        assert [run["name"] for run in head["runs"]] == ["<b>later"]
        assert head["waiting"] == [str(tmp_path / "file.txt")]
        assert '"mode":"serve"' in client.get("/").text


def test_a_run_that_begins_later_joins_behind_the_others(run, make, tmp_path):
    clock = Clock()
    later = tmp_path / "later"
    shown = Shown([run], clock, [later])
    (before,) = shown.head()["runs"]
    later.mkdir()
    make.append(later, make.group(0, make.simple(0.5)))
    clock.now = 2.0
    first, second = shown.head()["runs"]
    assert (first["id"], first["path"]) == (before["id"], before["path"])
    assert (second["name"], second["counts"]["episodes"]) == ("later", 1)
    assert shown.blob("1", "chunk/0") is not None
    assert shown.head()["waiting"] == []


def test_it_waits_for_its_run_and_interrupted_it_ends_quietly(folder, tmp_path):
    later = tmp_path / "later"
    (tmp_path / "file.txt").touch()
    named = [str(later), str(tmp_path / "file.txt")]
    command = [sys.executable, "-m", "tinker_rl", "view", *named, "--serve", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    waiting = f"{later}: no run has begun there; waiting for it (Ctrl-C ends)\n"
    left_out = f"warning: {named[1]} is no run's folder or journal; it is left out\n"
    assert [process.stderr.readline() for _ in range(2)] == [left_out, waiting]
    url = process.stdout.readline().split()[0]
    assert url.startswith("http://127.0.0.1:")
    with httpx.Client(trust_env=False) as client:
        assert f"<li>{later}</li>" in client.get(url).text
        later.symlink_to(folder)
        while not (runs := client.get(f"{url}head").json()["runs"]):
            time.sleep(0.1)
        assert [run["name"] for run in runs] == [folder.name]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))).close()
