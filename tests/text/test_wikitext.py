"""WikiText from the Hub, against a local server that answers the requests the Hub client makes."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from seqassay.errors import InputError, MissingExtraError, SeqassayError, UsageError
from seqassay.text.wikitext import PARQUET, REVISION, fetch_wikitext

pa = pytest.importorskip("pyarrow")
CONFIG = "wikitext-2-raw-v1"
ROWS = {
    "train": ["", " = Title = \n", "", " Some words – and more . \n", ""],
    "validation": ["", " = Other = \n"],
    "test": [" = Third = \n", ""],
}


def parquet_of(rows: list[str], column: str = "text") -> bytes:
    import pyarrow.parquet

    buffer = BytesIO()
    pyarrow.parquet.write_table(pa.table({column: rows}), buffer)
    return buffer.getvalue()


class Hub:
    """One dataset repository in memory, and a record of what was asked for."""

    def __init__(self) -> None:
        self.files = {f"{CONFIG}/{split}-00000-of-00001.parquet": parquet_of(rows) for split, rows in ROWS.items()}
        self.requests: list[str] = []
        self.lie_about = ""  # this file's published SHA-256 is another one
        self.stall_at: int | None = None  # send no byte of a Parquet file beyond this one, and keep the line open
        self.stalled = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        first = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.requests.append(f"{path.rsplit('/', 1)[-1]} from {first}")
        if path == f"/api/datasets/Salesforce/wikitext/revision/{REVISION}":
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": "0", "lfs": self.lfs(name, data)}
                for name, data in self.files.items()
            ]
            info = {"id": "Salesforce/wikitext", "sha": REVISION, "siblings": siblings, "tags": [], "private": False}
            self.send(request, 200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        elif path.startswith(f"/datasets/Salesforce/wikitext/resolve/{REVISION}/"):
            data = self.files[path.split(REVISION + "/")[1]]
            headers = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
            self.send(request, 206 if first else 200, data[first:], headers)
        else:
            self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})

    def lfs(self, name: str, data: bytes) -> dict[str, object]:
        digest = "0" * 64 if name.endswith(self.lie_about or "nothing") else hashlib.sha256(data).hexdigest()
        return {"sha256": digest, "size": len(data), "pointerSize": 134}

    def send(self, request: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(key, value)
        request.end_headers()
        if self.stall_at is None or not data.endswith(b"PAR1"):
            request.wfile.write(data)
            return
        request.wfile.write(data[: self.stall_at])
        request.wfile.flush()
        time.sleep(1)  # the client reads what is under way
        self.stalled.set()
        while self.stall_at is not None:
            time.sleep(0.05)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def test_the_text_is_the_original_files(hub: Hub, tmp_path: Path) -> None:
    files = fetch_wikitext(CONFIG, tmp_path)
    assert (tmp_path / "train.txt").read_text() == " \n = Title = \n \n Some words – and more . \n \n"
    assert (tmp_path / "valid.txt").read_text() == " \n = Other = \n"
    assert [(file.name, file.lines) for file in files] == [("train.txt", 5), ("valid.txt", 2), ("test.txt", 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fetch.json", "test.txt", "train.txt", "valid.txt"]
    n_requests = len(hub.requests)
    assert fetch_wikitext(CONFIG, tmp_path) == files
    assert len(hub.requests) == n_requests, "what is there is not asked for again"


def test_what_is_there_is_not_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    name = "train-00000-of-00001.parquet"
    (tmp_path / PARQUET).mkdir()
    whole = hub.files[f"{CONFIG}/{name}"]
    (tmp_path / PARQUET / f".{name}.{REVISION[:12]}.partial").write_bytes(whole[:100])
    fetch_wikitext(CONFIG, tmp_path)
    assert f"{name} from 100" in hub.requests
    assert (tmp_path / "train.txt").read_text().startswith(" \n = Title")


def test_a_file_that_is_not_the_published_one(hub: Hub, tmp_path: Path) -> None:
    hub.lie_about = "validation-00000-of-00001.parquet"
    with pytest.raises(SeqassayError, match=r"validation-00000-of-00001\.parquet: .*another SHA-256"):
        fetch_wikitext(CONFIG, tmp_path)
    hub.lie_about = ""
    fetch_wikitext(CONFIG, tmp_path)
    assert sum(request.startswith("train-") for request in hub.requests) == 1, "the whole one was kept"


def test_without_network_the_error_says_where_to_put_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SeqassayError, match="could not be downloaded") as caught:
        fetch_wikitext(CONFIG, tmp_path / "out")
    assert "train-00000-of-00001.parquet" in caught.value.hint
    assert str(tmp_path / "out" / PARQUET) in caught.value.hint
    # and so it is
    for split, rows in ROWS.items():
        (tmp_path / "out" / PARQUET / f"{split}-00000-of-00001.parquet").write_bytes(parquet_of(rows))
    assert len(fetch_wikitext(CONFIG, tmp_path / "out")) == 3


def test_what_cannot_be_fetched(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no configuration is called 'wikitext-3'"):
        fetch_wikitext("wikitext-3", tmp_path)
    with pytest.raises(UsageError, match="has no revision 'main2'"):
        fetch_wikitext(CONFIG, tmp_path, revision="main2")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError) as caught:
        fetch_wikitext(CONFIG, tmp_path)
    assert "pip install 'seqassay[text]'" in caught.value.hint


def test_another_text_in_the_folder(hub: Hub, tmp_path: Path) -> None:
    fetch_wikitext(CONFIG, tmp_path)
    with pytest.raises(UsageError, match="holds wikitext-2-raw-v1 at b08601e04326"):
        fetch_wikitext("wikitext-103-raw-v1", tmp_path)
    (tmp_path / "train.txt").write_text("changed")
    with pytest.raises(InputError, match=r"train\.txt: was changed"):
        fetch_wikitext(CONFIG, tmp_path)


@pytest.mark.parametrize("data", [b"no parquet", parquet_of(["a"], column="words")])
def test_files_that_are_no_parquet_with_text(data: bytes, tmp_path: Path) -> None:
    (tmp_path / PARQUET).mkdir()
    for split in ROWS:
        (tmp_path / PARQUET / f"{split}-00000-of-00001.parquet").write_bytes(data)
    with pytest.raises(InputError, match="is no Parquet file with a column text"):
        fetch_wikitext(CONFIG, tmp_path)
    assert not (tmp_path / "fetch.json").exists()


def test_a_stopped_fetch_exits_3_and_goes_on(hub: Hub, tmp_path: Path) -> None:
    """Ctrl-C while the server is silent; the same command given again ends well."""
    hub.stall_at = 200
    command = [sys.executable, "-m", "seqassay", "lm", "data", "fetch", CONFIG, "-o", str(tmp_path / "w")]
    process = subprocess.Popen([*command, "--no-progress"], stderr=subprocess.PIPE, text=True)
    assert hub.stalled.wait(120)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    hub.stall_at = None
    assert process.returncode == 3
    assert "give the same command again" in said
    assert subprocess.run([*command, "--no-progress"], timeout=120, check=False).returncode == 0
    assert (tmp_path / "w" / "train.txt").read_text().startswith(" \n = Title")
