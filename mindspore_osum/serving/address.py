"""Where a server is reached: an address that is taken before the model is loaded."""

import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address

from mindspore_osum.errors import UserError

BACKLOG = 128
TOKEN = "OSUM_TOKEN"
"""Variable of the environment with what clients must send."""


def bind(host: str, port: int, token: str | None) -> socket.socket:
    """A socket that listens: clients wait in its queue. Without a token on a loopback address only."""
    family, kind, address = check_open(host, token, port)
    with binding(host, port), contextlib.ExitStack() as opened:
        bound = opened.enter_context(socket.socket(family, kind))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
        opened.pop_all()  # it stays open
    return bound


def check_open(host: str, token: str | None, port: int = 0) -> tuple:
    """Family, kind and address of a socket for a server; UserError if others reach it without a token."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UserError(f"--host {host}: no such address here") from None
    if not token and not ip_address(address[0].partition("%")[0]).is_loopback:
        raise UserError(
            f"--host {host}: others could reach the model there; give --token-file FILE or {TOKEN}, or bind "
            "127.0.0.1"
        )
    return family, kind, address


@contextlib.contextmanager
def binding(host: str, port: int) -> Iterator[None]:
    """Errors of the system in this block become a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{host} port {port}: cannot bind it ({error.strerror}); take another") from None
