"""A client for chat completions of any OpenAI-compatible server; uses only the standard library.

Notable choices
- After temporary failures (rate limits, server errors, broken connections, empty answers) it retries with
  growing pauses; a refusal (wrong key, unknown model) ends the run at once with the server's message.
- Redirects are refused: they would send the key to another host. The key is never written or printed.
"""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from urllib.parse import urlsplit

from mindspore_osum.errors import UserError

PATH = "/chat/completions"
MAX_ANSWER_BYTES = 1 << 20
PASSING = {408, 409, 425, 429, *range(500, 600)}  # HTTP status codes that are retried
MAX_PAUSE_S = 60.0


class Unavailable(Exception):
    """The server gave no answer after all retries."""


@dataclass(frozen=True)
class Endpoint:
    """The server and model of a judge, or of another `role`; its key is in OSUM_<ROLE>_KEY."""

    url: str  # base address, for example https://api.deepseek.com/v1
    model: str
    key: str | None = field(default=None, repr=False)
    tries: int = 5
    pause_s: float = 1.0  # before the second try; doubles each time
    timeout_s: float = 60.0
    role: str = "judge"

    def __post_init__(self):
        try:
            parts = urlsplit(self.url)
            right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # brackets, or a port beyond 65535
            right = False
        if not right:
            raise UserError(
                f"{self.role} address {self.url!r}: expected http(s)://host/path, "
                "for example https://api.deepseek.com/v1"
            )
        if not all("!" <= c <= "~" for c in self.key or ""):
            raise UserError(
                f"{self.role} key: has characters that cannot be sent; check OSUM_{self.role.upper()}_KEY"
            )

    def ask(self, prompt: str) -> str:
        """Return the model's answer to one user message, at temperature 0.

        Raises
        ------
        Unavailable : no answer after all retries.
        UserError : the server refuses the request permanently.
        """
        trouble = ""
        for attempt in range(self.tries):
            try:
                return self._post(prompt)
            except urllib.error.HTTPError as error:
                trouble = f"HTTP {error.code}: {_words_of(error)}"
                if error.code not in PASSING:
                    raise UserError(
                        f"{self.role} {self.url}: {trouble}; check address, model and key"
                    ) from None
                wait = _seconds(error.headers.get("Retry-After"))
            except (OSError, HTTPException, ValueError) as error:  # broken connections, malformed answers
                reason = getattr(error, "reason", None) or error
                trouble, wait = f"no answer from {self.url} ({str(reason) or type(error).__name__})", None
            if attempt + 1 < self.tries:
                time.sleep(min(MAX_PAUSE_S, wait if wait is not None else self.pause_s * 2**attempt))
        raise Unavailable(trouble)

    def _post(self, prompt: str) -> str:
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        address = self.url.rstrip("/").removesuffix(PATH) + PATH
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        with _OPENER.open(request, timeout=self.timeout_s) as response:
            data = response.read(MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            raise ValueError(f"answer of more than {MAX_ANSWER_BYTES} bytes")
        try:
            content = json.loads(data)["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise ValueError("the answer is no chat completion") from None
        if not isinstance(content, str) or not content.strip():
            raise ValueError("the answer is empty")
        return content


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None  # urllib then raises the 3xx as an HTTPError


_OPENER = urllib.request.build_opener(_NoRedirect)


def _words_of(error: urllib.error.HTTPError) -> str:
    """The server's own explanation on one line, truncated."""
    try:
        text = error.read(4096).decode("utf-8", "replace")
    except OSError:
        text = ""
    return " ".join(text.split())[:200] or str(error.reason)


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.strip().isdigit() else None
