"""A chat-completions server on this machine, and manifests with answers to them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class ChatServer:
    """Speaks the protocol of OpenAI's chat completions over real HTTP.

    `reply` answers a prompt; `troubles` are (status, headers, body) given first, one for each request.
    """

    def __init__(self):
        self.reply = lambda prompt: '{"followed": true}'
        self.troubles: list[tuple[int, dict, bytes]] = []
        self.requests: list[tuple[dict, dict]] = []  # headers and body of what was asked
        self.lock = threading.Lock()
        chat = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with chat.lock:
                    chat.requests.append((dict(self.headers), body))
                    trouble = chat.troubles.pop(0) if chat.troubles else None
                self.answer(*(trouble or self.completion(body)))

            def completion(self, body):
                if self.path != "/v1/chat/completions":
                    return 404, {}, b'{"error": {"message": "no such path"}}'
                (message,) = body["messages"]
                assert message["role"] == "user"
                content = chat.reply(message["content"])
                choice = {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": content},
                }
                answer = {"id": "x", "object": "chat.completion", "model": body["model"], "choices": [choice]}
                return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

            def answer(self, status, headers, data):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def prompts(self) -> list[str]:
        """What was asked so far."""
        return [body["messages"][0]["content"] for _, body in self.requests]


@pytest.fixture
def chat_server(monkeypatch):
    """A running server."""
    for name in ("OSUM_JUDGE_URL", "OSUM_JUDGE_KEY", "OSUM_JUDGE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    chat = ChatServer()
    thread = threading.Thread(target=chat.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield chat
    chat.server.shutdown()
    thread.join()
    chat.server.server_close()


@pytest.fixture
def write_lines(tmp_path):
    """write_lines(name, objects) -> path of a jsonl file."""

    def write(name, objects):
        path = tmp_path / name
        text = "".join(
            (o if isinstance(o, str) else json.dumps(o, ensure_ascii=False)) + "\n" for o in objects
        )
        path.write_text(text, encoding="utf-8")
        return path

    return write
