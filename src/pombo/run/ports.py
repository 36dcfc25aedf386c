"""Listening, or saying in a sentence why not."""

import socket

from pombo.run.errors import CommandFailed


def listen(what: str, setting: str, host: str, port: int, backlog: int = 1) -> socket.socket:
    """Raises CommandFailed, naming the `setting` that takes another port."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        raise CommandFailed(
            f"The {what} cannot listen on {host}:{port}: {error.strerror}. {setting} takes another one."
        ) from error


def check_free(what: str, setting: str, host: str, port: int) -> None:
    """Raises CommandFailed as `listen` would."""
    listen(what, setting, host, port).close()
