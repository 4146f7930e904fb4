"""A web server on 127.0.0.1 whose faults a test chooses."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Served:
    """One file and how it is served; `asked` has the headers of each request.

    cuts: how many bytes each of the next answers brings before it breaks; then none breaks.
    silence_s: how long a broken answer stays silent before its connection ends.
    statuses: what the next answers refuse with.
    """

    content: bytes
    etag: str = '"one"'
    ranges: bool = True
    honours_if_range: bool = True
    cuts: list[int] = field(default_factory=list)
    silence_s: float = 0
    statuses: list[int] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(content: bytes, **faults) -> Iterator[Served]:
    """Serve a file from a thread while the block runs."""
    served = Served(content, **faults)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.asked.append({name.lower(): value for name, value in self.headers.items()})
            self.close_connection = True
            if served.statuses:
                self.send_error(served.statuses.pop(0))
                return
            body, start = served.content, 0
            asked = self.headers.get("Range")
            same = self.headers.get("If-Range", served.etag) == served.etag
            if asked and served.ranges and (same or not served.honours_if_range):
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(body) - start))
            if served.etag:
                self.send_header("ETag", served.etag)
            self.end_headers()
            end = start + served.cuts.pop(0) if served.cuts else len(body)
            self.wfile.write(body[start:end])
            if end < len(body):
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
