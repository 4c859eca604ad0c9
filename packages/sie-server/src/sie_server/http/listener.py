"""The socket that the server listens on."""

import socket


def listen(host: str, port: int) -> socket.socket:
    """A bound socket that listens. Connections wait in it until the server accepts them.

    Raises:
        OSError: the address can't be used; the message names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener
