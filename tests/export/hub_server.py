"""A local server with the part of the Hugging Face Hub's interface that uploads and downloads of a client need."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secret"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Repositories as dictionaries of files. As in the real one, arrays go to another storage than text.

    Attributes:
        repos: the files of each repository.
        private: what was asked for when a repository was created.
        served: the paths of all downloads.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, Any] = {}
        self.objects: dict[str, bytes] = {}
        self.served: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def local_hub() -> Iterator[Hub]:
    with Hub() as hub:
        thread = Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self) -> None:
        body, path = self.body(), unquote(urlsplit(self.path).path)
        if path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid credentials in Authorization header"}, 401)
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path.endswith("/info/lfs/objects/batch"):
            self.answer({"transfer": "basic", "objects": [self.place(each) for each in json.loads(body)["objects"]]})
        else:
            _, _, _, user, name, action, _ = path.split("/")
            repo = f"{user}/{name}"
            if action == "preupload":
                self.answer({"files": [self.mode(each) for each in json.loads(body)["files"]]})
            else:
                self.commit(repo, body)

    def create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked.get('organization') or 'user'}/{asked['name']}"
        status = 409 if repo in self.server.repos else 200
        self.server.repos.setdefault(repo, {".gitattributes": b"*.safetensors filter=lfs"})
        self.server.private.setdefault(repo, asked.get("visibility") or asked.get("private"))
        self.answer({"url": f"{self.server.endpoint}/{repo}"}, status)

    def place(self, item: dict[str, Any]) -> dict[str, Any]:
        action = {"upload": {"href": f"{self.server.endpoint}/objects/{item['oid']}"}}
        return {**item, "actions": action}

    def mode(self, file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["path"].endswith((".safetensors", ".npz", ".png")) else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def commit(self, repo: str, body: bytes) -> None:
        files = self.server.repos[repo]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        address = f"{self.server.endpoint}/{repo}/commit/{COMMIT}"
        self.answer({"success": True, "commitOid": COMMIT, "commitUrl": address})

    def do_PUT(self) -> None:
        content = self.body()
        self.server.objects[hashlib.sha256(content).hexdigest()] = content
        self.answer(b"")

    def do_GET(self) -> None:
        # Newer clients also ask for what is no part of a repository.
        user, name, kind, revision, *rest = [*unquote(urlsplit(self.path).path)[1:].split("/"), "", ""]
        repo = self.server.repos.get(f"{user}/{name}")
        if kind != "resolve" or repo is None or revision not in {"main", COMMIT}:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            return
        file = "/".join(rest).rstrip("/")
        if file not in repo:
            self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            return
        if self.command == "GET":
            self.server.served.append(file)
        etag = f'"{hashlib.sha1(repo[file]).hexdigest()}"'
        self.answer(repo[file], ETag=etag, X_Repo_Commit=COMMIT)

    do_HEAD = do_GET  # noqa: N815 - the name that the server looks for
