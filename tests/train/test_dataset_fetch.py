"""Fetching a release from a local server that breaks in every way a real one does."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from seqassay.errors import InputError, ResourceError, SeqassayError, UsageError
from seqassay.train import dataset_download
from seqassay.train.dataset_download import FetchProgress, Patience
from seqassay.train.dataset_fetch import fetch_release, list_release
from seqassay.train.dataset_sources import parse_sources

QUICK = Patience(timeout_s=20, attempts=3, pause_s=0.01)
IMPATIENT = Patience(timeout_s=0.5, attempts=3, pause_s=0.01)
FIRST, SECOND = "viral.1.1.genomic.fna.gz", "viral.2.1.genomic.fna.gz"


def packed(seed: int, n: int = 400_000) -> bytes:
    bases = "".join(random.Random(seed).choices("ACGT", k=n))
    return gzip.compress(f">NC_{seed}.1 made up\n{bases}\n".encode(), mtime=0)


class Server:
    """A release in memory, a record of what was asked for, and faults to switch on."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut_at: int | None = None  # bytes of a body after which the connection ends…
        self.cuts_left = 0  # …this many times
        self.stalls = False  # …or stays open, without a word
        self.errors: list[int] = []  # statuses of the next answers for data files
        self.knows_range = True
        self.states_length = True
        self.stalled = threading.Event()
        self.ended = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                server.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/refseq/release/"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, group: str, names: dict[str, bytes], *, md5: bool = True) -> None:
        for name, data in names.items():
            self.files[f"{group}/{name}"] = data
        links = "".join(f'<a href="{name}">{name}</a>\n' for name in [*names, "viral.1.protein.faa.gz", "../"])
        self.files[f"{group}/"] = f"<html><pre>{links}</pre></html>".encode()
        self.files["RELEASE_NUMBER"] = b"230\n"
        if md5:
            self.list_checksums()

    def list_checksums(self) -> None:
        data = {path: content for path, content in self.files.items() if path.endswith(".gz")}
        lines = [f"{hashlib.md5(content).hexdigest()}\t{path.split('/')[-1]}\n" for path, content in data.items()]
        self.files["release-catalog/release230.files.installed"] = "".join(lines).encode()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.removeprefix("/refseq/release/")
        asked = request.headers.get("Range")
        self.requests.append(path + (f" {asked}" if asked else ""))
        is_data = path.endswith(".gz")
        if is_data and self.errors:
            return self.send(request, self.errors.pop(0), b"")
        if path not in self.files:
            return self.send(request, 404, b"")
        data, first = self.files[path], 0
        if asked and self.knows_range:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
            if first >= len(data):
                return self.send(request, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
            return self.send(request, 206, data[first:], headers, is_data=is_data)
        return self.send(request, 200, data, is_data=is_data)

    def send(
        self, request: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str] | None = None,
        *, is_data: bool = False,
    ) -> None:  # fmt: skip
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        if self.states_length:
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if is_data and self.cut_at is not None and len(data) > self.cut_at and (self.cuts_left or self.stalls):
            self.cuts_left -= 1
            request.wfile.write(data[: self.cut_at])
            request.wfile.flush()
            self.stalled.set()
            if self.stalls:
                self.ended.wait(30)
            return
        request.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.put("viral", {FIRST: packed(1), SECOND: packed(2), "viral.1.genomic.gbff.gz": packed(3, 100)})
    yield server
    server.ended.set()
    server.http.shutdown()
    server.http.server_close()


def fetch(server: Server, folder: Path, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"kind": "fna", "base_url": server.url, "patience": QUICK}
    return fetch_release(folder, ["viral"], **{**options, **more})


def is_whole(server: Server, folder: Path) -> bool:
    names = sorted(path.name for path in folder.iterdir())
    return names == ["fetch.json", FIRST, SECOND] and all(
        (folder / name).read_bytes() == server.files[f"viral/{name}"] for name in (FIRST, SECOND)
    )


def test_a_release_and_its_manifest(server: Server, tmp_path: Path) -> None:
    manifest = fetch(server, tmp_path / "out")
    assert is_whole(server, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "fetch.json").read_text()) == manifest
    assert (manifest["release"], manifest["complete"], manifest["base_url"]) == (230, True, server.url)
    for file in manifest["files"]:
        data = server.files[f"viral/{file['name']}"]
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert (file["checked"], file["label"], file["group"]) == ("md5", "viral", "virus")
        assert file["url"] == f"{server.url}viral/{file['name']}"
    sources = parse_sources(str(tmp_path / "out"))
    assert [Path(source.path).name for source in sources] == [FIRST, SECOND]


def test_what_is_there_is_checked_and_not_fetched_again(server: Server, tmp_path: Path) -> None:
    first = fetch(server, tmp_path)
    server.requests.clear()
    assert fetch(server, tmp_path) == first
    assert not any(request.endswith(".gz") for request in server.requests)
    path = tmp_path / FIRST
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert fetch(server, tmp_path) == first
    assert is_whole(server, tmp_path)


def test_files_are_listed_in_the_order_of_their_numbers(server: Server) -> None:
    server.put("viral", {f"viral.{i}.1.genomic.fna.gz": b"" for i in (10, 2, 1)})
    release, files = list_release(["viral"], kind="fna", base_url=server.url, patience=QUICK)
    assert (release, [file.name.split(".")[1] for file in files]) == (230, ["1", "2", "10"])
    assert len(list_release(["viral"], kind="fna", max_files=2, base_url=server.url, patience=QUICK)[1]) == 2


def test_a_connection_that_breaks_again_and_again_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cut_at, server.cuts_left = 20_000, 7  # more often than there are attempts, but with bytes each time
    progress = FetchProgress()
    fetch(server, tmp_path, progress=progress)
    assert is_whole(server, tmp_path)
    total = sum(len(server.files[f"viral/{name}"]) for name in (FIRST, SECOND))
    assert progress.fetched_bytes == total  # no byte twice
    assert any("bytes=20000-" in request for request in server.requests)


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.cut_at, server.stalls = 0, True
    with pytest.raises(SeqassayError, match=r"viral\.1\.1.*3 attempts") as error:
        fetch(server, tmp_path, patience=IMPATIENT)
    assert error.value.exit_code == 1
    assert "it goes on where it stopped" in error.value.hint


def test_a_stalled_download_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.cut_at, server.stalls = 50_000, True
    thread = threading.Thread(target=lambda: (server.stalled.wait(20), setattr(server, "cut_at", None)))
    thread.start()
    fetch(server, tmp_path, patience=Patience(timeout_s=2, attempts=20, pause_s=0.01))
    thread.join()
    assert is_whole(server, tmp_path)


def test_what_came_before_every_silence_is_kept(server: Server, tmp_path: Path) -> None:
    """Pieces much smaller than those that are read at once: each counts as progress, and the next request goes on."""
    server.cut_at, server.stalls = 50_000, True
    fetch(server, tmp_path, patience=Patience(timeout_s=1, attempts=4, pause_s=0.01))
    assert is_whole(server, tmp_path)
    assert f"viral/{FIRST} bytes=50000-" in server.requests


def test_a_server_without_range_sends_all_of_it_again(server: Server, tmp_path: Path) -> None:
    server.knows_range, server.cut_at, server.cuts_left = False, 30_000, 1
    fetch(server, tmp_path)
    assert is_whole(server, tmp_path)


def test_a_server_that_does_not_state_lengths(server: Server, tmp_path: Path) -> None:
    server.states_length = False
    fetch(server, tmp_path)
    assert is_whole(server, tmp_path)


def test_overload_passes(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 429]
    fetch(server, tmp_path)
    assert is_whole(server, tmp_path)


@pytest.mark.parametrize("status", [404, 403])
def test_a_refusal_is_final(server: Server, tmp_path: Path, status: int) -> None:
    server.errors = [status]
    with pytest.raises(SeqassayError, match=f"viral.1.1.genomic.fna.gz: the server says {status}"):
        fetch(server, tmp_path)
    assert sum(request.endswith(".gz") for request in server.requests) == 1
    fetch(server, tmp_path)
    assert is_whole(server, tmp_path)


def test_a_killed_fetch_goes_on(server: Server, tmp_path: Path) -> None:
    server.cut_at, server.stalls = 90_000, True
    script = (
        "from pathlib import Path\n"
        "from seqassay.train.dataset_fetch import fetch_release\n"
        f"fetch_release(Path({str(tmp_path)!r}), ['viral'], kind='fna', base_url={server.url!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    assert server.stalled.wait(120)
    part = tmp_path / f".{FIRST}.r230.partial"
    for _ in range(200):
        if part.exists():
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (tmp_path / FIRST).exists()
    part.write_bytes(server.files[f"viral/{FIRST}"][:80_000])  # what had reached the disk
    server.cut_at, server.stalls = None, False
    server.requests.clear()
    fetch(server, tmp_path)
    assert is_whole(server, tmp_path)
    assert f"viral/{FIRST} bytes=80000-" in server.requests


def test_a_partial_file_that_is_whole_already(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".{FIRST}.r230.partial").write_bytes(server.files[f"viral/{FIRST}"])
    fetch(server, tmp_path)
    assert is_whole(server, tmp_path)


@pytest.mark.parametrize("rubbish", [b"\x00" * 5000, b"\x00" * 900_000])
def test_a_partial_file_of_rubbish_is_noticed(server: Server, tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / f".{FIRST}.r230.partial").write_bytes(rubbish)
    fetch(server, tmp_path)
    assert is_whole(server, tmp_path)


def test_a_file_that_is_not_what_the_release_lists(server: Server, tmp_path: Path) -> None:
    server.files[f"viral/{FIRST}"] = packed(9)
    with pytest.raises(SeqassayError, match=r"has the MD5 \w+, the release lists \w+, twice"):
        fetch(server, tmp_path)
    assert not (tmp_path / FIRST).exists()


def test_without_listed_checksums_gzip_s_own_counts(server: Server, tmp_path: Path) -> None:
    del server.files["release-catalog/release230.files.installed"]
    assert {file["checked"] for file in fetch(server, tmp_path)["files"]} == {"gzip"}
    damaged = bytearray(server.files[f"viral/{SECOND}"])
    damaged[5000] ^= 255
    server.files[f"viral/{SECOND}"] = bytes(damaged)
    with pytest.raises(SeqassayError, match="is no whole gzip file, twice"):
        fetch(server, tmp_path / "other")


def test_releases_do_not_mix(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    server.files["RELEASE_NUMBER"] = b"231\n"
    server.files["release-catalog/release231.files.installed"] = b""
    with pytest.raises(UsageError, match=r"holds files of release 230, and .* has release 231 now"):
        fetch(server, tmp_path)


def test_an_unfinished_fetch_is_no_source(server: Server, tmp_path: Path) -> None:
    del server.files[f"viral/{SECOND}"]
    with pytest.raises(SeqassayError, match="404"):
        fetch(server, tmp_path)
    assert json.loads((tmp_path / "fetch.json").read_text())["complete"] is False
    with pytest.raises(InputError, match="has not ended"):
        parse_sources(str(tmp_path))


@pytest.mark.parametrize(
    ("groups", "base_url", "message"),
    [
        (["virus"], "", "no RefSeq group 'virus'"),
        ([], "", "no group given"),
        (["viral"], "file:///etc/", "is no address"),
        (["viral"], "nowhere", "is no address"),
        (["plant"], "", "404"),
    ],
)
def test_groups_and_addresses_that_cannot_be(
    server: Server, tmp_path: Path, groups: list[str], base_url: str, message: str
) -> None:
    with pytest.raises(SeqassayError, match=message):
        fetch_release(tmp_path, groups, base_url=base_url or server.url, patience=QUICK)


def test_an_address_that_is_no_release(server: Server, tmp_path: Path) -> None:
    server.files["RELEASE_NUMBER"] = b"<html>welcome</html>"
    with pytest.raises(SeqassayError, match="is not there or no number"):
        fetch(server, tmp_path)
    server.files["RELEASE_NUMBER"] = b"230"
    server.files["viral/"] = b"<html>nothing here</html>"
    with pytest.raises(SeqassayError, match=r"lists no viral\.\*\.genomic\.fna\.gz"):
        fetch(server, tmp_path)


def test_a_listing_cannot_name_a_file_elsewhere(server: Server, tmp_path: Path) -> None:
    server.files["viral/"] = (
        b'<a href="viral.../../x.genomic.fna.gz">x</a><a href="/etc/viral.1.1.genomic.fna.gz">y</a>'
    )
    _, files = list_release(["viral"], kind="fna", base_url=server.url, patience=QUICK)
    assert [file.name for file in files] == [FIRST]
    assert files[0].url == f"{server.url}viral/{FIRST}"


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(SeqassayError, match="3 attempts"):
        fetch_release(tmp_path, ["viral"], base_url="http://127.0.0.1:9/", patience=QUICK)


def test_a_disk_too_small_is_said_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 100

    monkeypatch.setattr(dataset_download.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(ResourceError, match="are needed for"):
        fetch(server, tmp_path)


def test_a_disk_that_fills(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(dataset_download.os, "fsync", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert is_whole(server, tmp_path)


def test_two_fetches_do_not_mix(server: Server, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another fetch is working there"):
        fetch(server, tmp_path)
    os.close(descriptor)


def test_a_damaged_manifest_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "fetch.json").write_text("{")
    with pytest.raises(InputError, match=r"fetch\.json: is not the manifest of a fetch"):
        fetch(server, tmp_path)
