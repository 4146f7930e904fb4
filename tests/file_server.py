"""A web server on 127.0.0.1 whose faults a test chooses."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Served:
    """One file and how it is served; `requests` counts what was asked for.

    cuts: how many bytes each of the next answers sends before it breaks; then none breaks.
    silence_s: how long a broken answer stays silent before its connection ends.
    statuses: the error codes of the next answers.
    """

    content: bytes
    cuts: list[int] = field(default_factory=list)
    silence_s: float = 0
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True  # whether the server can send the rest of a file
    requests: int = 0
    starts: list[int] = field(default_factory=list)  # where each answer began
    url: str = ""


@contextmanager
def serving(content: bytes, **faults) -> Iterator[Served]:
    """Serve a file from a thread while the block runs."""
    served = Served(content, **faults)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.requests += 1
            self.close_connection = True
            if served.statuses:
                self.send_error(served.statuses.pop(0))
                return
            start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if served.ranges else 0
            if start >= len(served.content) > 0:
                self.send_error(416)
                return
            served.starts.append(start)
            self.send_response(206 if start else 200)
            if start:
                whole = len(served.content)
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            self.send_header("Content-Length", str(len(served.content) - start))
            self.end_headers()
            end = served.cuts.pop(0) if served.cuts else len(served.content)
            self.wfile.write(served.content[start:end])
            if end < len(served.content):
                time.sleep(served.silence_s)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/file.tar"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
