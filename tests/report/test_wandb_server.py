"""`wandb sync` itself, against a local server that answers as much as it asks: what is sent, and that it continues."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from simulated import ROOT, make_sweep, write_run

BUCKET = {"id": "b", "displayName": "d", "description": "", "config": "{}", "sweepName": None}
PROJECT = {"id": "p", "name": "dualenc", "entity": {"id": "e", "name": "lab"}}


class Server(ThreadingHTTPServer):
    """Keeps the lines of history, and what was said of the run."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.history: list[str] = []
        self.run: dict[str, Any] = {}

    def answer(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        """To one request."""
        query, given = asked.get("query", ""), asked.get("variables", {})
        if "file_stream" in path:
            sent = asked.get("files", {}).get("wandb-history.jsonl")
            if sent:
                self.history[sent["offset"] :] = sent["content"]
            return {}
        if "RunResumeStatus" in query:
            return {"data": {"model": {**PROJECT, "bucket": self._known(given["name"])}}}
        if "UpsertBucket" in query:
            self.run |= {key: value for key, value in given.items() if value is not None}
            bucket = {**BUCKET, "name": given["name"], "project": PROJECT, "historyLineCount": len(self.history)}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": not self.history}}}
        if "CreateRunFiles" in query:
            place = f"http://127.0.0.1:{self.server_port}/upload"
            files = [{"name": name, "uploadUrl": place} for name in given["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"data": {}}

    def _known(self, name: str) -> dict[str, Any] | None:
        """What it tells of a run that it has."""
        if not self.history:
            return None
        empty = {"summaryMetrics": "{}", "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]", "tags": []}
        tail = {"historyLineCount": len(self.history), "historyTail": json.dumps(self.history[-1:])}
        return {**BUCKET, **empty, **tail, "name": name, "notes": None, "wandbConfig": '{"t": 1}'}


class Handler(BaseHTTPRequestHandler):
    """Requests to `Server`."""

    server: Server

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""

    def do_POST(self) -> None:
        """Of GraphQL, and of files that grow."""
        body = self._body()
        self._say(self.server.answer(self.path, json.loads(body)))

    def do_PUT(self) -> None:
        """Of whole files."""
        self._body()
        self._say({})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _say(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_run_that_has_grown_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_sweep(tmp_path, "grid: {data.coverage: [0.5]}").runs[0]
    assert run.folder is not None
    lines = write_run(run)
    shutil.rmtree(run.folder.path / "examples")  # a table would be an artifact, about which there is much more to ask
    metrics, summary = run.folder.path / "metrics.jsonl", run.folder.summary
    whole, finished = metrics.read_text(), summary.read_text()
    metrics.write_text("".join(whole.splitlines(keepends=True)[:2]))
    summary.unlink()
    local = {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": "a" * 40}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1", **local}
    command = [sys.executable, "-m", "dualenc.sync", "simulated.yaml"]

    def sync() -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert ": uploaded" in sync()
    metrics.write_text(whole)
    summary.write_text(finished)
    assert ": uploaded" in sync()
    assert "nothing new since the last upload" in sync()
    history = [json.loads(line) for line in server.history]
    sent = [line for line in history if "train/loss" in line]
    assert [line["_step"] for line in sent] == [line["step"] for line in lines]
    for line, logged in zip(sent, lines):
        assert {key: line[key] for key in logged if key in line} == {k: v for k, v in logged.items() if v is not None}
    assert (server.run["groupName"], server.run["tags"]) == ("simulated", ["data.coverage=0.5"])
    config = json.loads(server.run["config"])
    assert config["sweep"]["value"] == {"sweep": "simulated", "values": {"data.coverage": 0.5}}
