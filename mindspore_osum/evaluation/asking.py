"""Questions to a language model whose replies hold a JSON object: several at a time, repeated where needed.

Notable choices
- If a reply has no verdict, the question is repeated.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mindspore_osum.evaluation.endpoint import Endpoint, Unavailable

JOBS = 4  # concurrent requests
ASKS = 3  # attempts per question to get a reply with a verdict
GIVE_UP = 8  # consecutive questions without a verdict after which the server counts as unavailable


@dataclass(frozen=True)
class Matter:
    """One item to judge: the prompt, and the parser of its reply (ValueError if there is no verdict)."""

    prompt: str
    read: Callable[[str], dict]

    def id(self, model: str) -> str:
        """Key of the verdict in the cache."""
        return hashlib.sha256(f"{model}\n{self.prompt}".encode()).hexdigest()


def ask_all(pool, endpoint: Endpoint, todo: Mapping[str, Matter]) -> Iterator[tuple[str, dict | None, str]]:
    """Ask about matters, several at a time.

    Parameters
    ----------
    pool : a ThreadPoolExecutor.
    todo : name -> matter.

    Yields
    ------
    name, verdict, trouble : in order; the verdict is None if there is none, and the trouble says why.

    Raises
    ------
    UserError : the server refuses requests.
    """
    futures = [(name, pool.submit(_ask, endpoint, matter)) for name, matter in todo.items()]
    for name, future in futures:
        try:
            verdict, trouble = future.result()
        except BaseException:  # refused or interrupted: cancel requests that have not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        yield name, verdict, trouble


def _ask(endpoint: Endpoint, matter: Matter) -> tuple[dict | None, str]:
    reply = ""
    for _ in range(ASKS):
        try:
            reply = endpoint.ask(matter.prompt)
            return matter.read(reply), ""
        except Unavailable as error:
            return None, str(error)
        except ValueError:
            continue
    return None, f"no verdict in {' '.join(reply.split())[:100]!r}"


def object_in(reply: str) -> dict:
    """The first JSON object in a reply, without others in it; ValueError if there is none."""
    match = re.search(r"\{[^{}]*\}", reply)
    values = json.loads(match[0]) if match else None
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    return values
