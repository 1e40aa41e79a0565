"""A hub on this machine with the protocols of huggingface.co and modelscope.cn, as far as downloads go."""

import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "master", "v1", COMMIT)


class Hub(ThreadingHTTPServer):
    """Repositories of bytes.

    Attributes
    ----------
    repos : "owner/name" -> {file: bytes}.
    asked : (method, path, Range header) of every request.
    limit : bytes after which the next large file's connection breaks; None: never.
    """

    daemon_threads = True

    def __init__(self, repos: dict[str, dict[str, bytes]]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos, self.asked, self.limit = repos, [], None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub, url = self.server, urlsplit(self.path)
        hub.asked.append((self.command, unquote(self.path), self.headers.get("Range")))
        parts, query = unquote(url.path).strip("/").split("/"), parse_qs(url.query)
        if parts[:2] == ["api", "models"]:
            return self._info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main", body)
        if parts[2:3] == ["resolve"]:
            return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), body)
        if parts[:3] == ["api", "v1", "models"] and parts[5:6] == ["repo"]:
            repo, revision = "/".join(parts[3:5]), query.get("Revision", ["master"])[0]
            if "FilePath" in query:
                return self._file(repo, revision, query["FilePath"][0], body)
            return self._listing(repo, revision, body)
        self._json({"error": "no such page"}, 404, body)

    def _known(self, repo: str, revision: str, body: bool) -> bool:
        code = "RepoNotFound" if repo not in self.server.repos else "RevisionNotFound"
        if repo in self.server.repos and revision in REVISIONS:
            return True
        self._json({"error": code, "Code": 404, "Success": False}, 404, body, {"X-Error-Code": code})
        return False

    def _info(self, repo: str, revision: str, body: bool) -> None:
        if self._known(repo, revision, body):
            files = self.server.repos[repo].items()
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files]
            self._json({"id": repo, "sha": COMMIT, "siblings": siblings}, 200, body)

    def _listing(self, repo: str, revision: str, body: bool) -> None:
        if self._known(repo, revision, body):
            files = [
                {"Path": name, "Name": name, "Size": len(data), "Type": "blob", "Sha256": _digest(data)}
                for name, data in self.server.repos[repo].items()
            ]
            self._json({"Code": 200, "Success": True, "Data": {"Files": files}}, 200, body)

    def _file(self, repo: str, revision: str, name: str, body: bool) -> None:
        if not self._known(repo, revision, body):
            return
        if (data := self.server.repos[repo].get(name)) is None:
            return self._json({"error": "x"}, 404, body, {"X-Error-Code": "EntryNotFound"})
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_digest(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if body:
            end = len(data)
            if self.server.limit is not None and len(data) - start > self.server.limit:
                end, self.close_connection = start + self.server.limit, True
            self.wfile.write(data[start:end])

    def _json(self, value: dict, status: int, body: bool, headers: dict | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def serving(repos: dict[str, dict[str, bytes]]):
    """A running `Hub`."""
    hub = Hub(repos)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
