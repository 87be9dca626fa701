"""Small servers of the tests, running in a thread while they are needed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from typing import TypeVar

Running = TypeVar("Running", bound=BaseServer)


@contextmanager
def running(server: Running) -> Iterator[Running]:
    """The server, which answers until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
