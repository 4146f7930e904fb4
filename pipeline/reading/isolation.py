"""Run a reader in a child process, so that a damaged scan cannot stop the batch.

Codec libraries are written in C and C++ and have had heap overflows, so pixels
are never decoded in the process that drives a batch:

    parent                              child
      |-- function, arguments, a file -->|    pickled: the parent is trusted
      |<------- "file 7 of 120" --------|    progress messages, with the current file
      |<------- JSON -------------------|    the child is not trusted: never unpickled
                both processes map the file with the voxels into memory

The child is a plain subprocess and not one of `multiprocessing`: it does not
import the caller's main script again, and workers may start it (pool workers
are daemons, which may have no children). Its stdout and stderr are closed,
because libraries print what they read. A child is started on first use and reads
one scan after the other until the parent ends. Each thread that reads at the
same time has a child of its own.
"""

import atexit
import errno
import json
import mmap
import os
import pickle
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from functools import partial
from importlib import import_module
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import CaseError, EnvironmentFault, Notice
from voxtile.machine.memory_errors import limit_mb
from voxtile.machine.processes import ending, settle_child, spawn, start
from voxtile.volume import Source, Volume

from .scan import Scan

# Seconds without a progress message that count as a hang; each file and frame sends one.
QUIET_S = 120.0
# A child's address space is limited to half of the machine's memory, and to at most this.
MOST_MEMORY_BYTES = 2**34

# One thread: threads of BLAS reserve address space, which is limited.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
_LENDS = hasattr(socket, "send_fds")  # whether a child can be lent an open file
_BINARY = getattr(os, "O_BINARY", 0)  # of Windows
_LOOK_EVERY_S = 0.02
_LENGTH = struct.Struct("!Q")
_LONGEST_REPLY = 2**24
_DTYPES = ("uint8", "uint16", "int16", "int32", "int64", "float32", "float64")


class Workspace:
    """First argument of a function in the child: memory for voxels, and progress messages."""

    def __init__(self, handle: int, tell: Callable[[bytes], object]) -> None:
        self._handle = handle
        self._tell = tell
        self._places: dict[int, int] = {}
        self._size = 0

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Return zeros in C order that the parent can map; use it for the voxels of the result."""
        nbytes = prod(shape) * dtype.itemsize
        offset = self._size
        # Each array begins on a page, as a mapping must.
        self._size = -(-(offset + nbytes) // mmap.ALLOCATIONGRANULARITY)
        self._size *= mmap.ALLOCATIONGRANULARITY
        os.ftruncate(self._handle, self._size)
        memory = mmap.mmap(self._handle, nbytes, offset=offset)
        array = np.frombuffer(memory, dtype).reshape(shape)
        self._places[array.ctypes.data] = offset
        return array

    def offset(self, array: np.ndarray) -> int:
        """Return the offset in the file of an allocated array or of its transpose."""
        return self._places[array.ctypes.data]

    def at(self, place: str) -> None:
        """Send a progress message with the current work, such as ``file 7 of 120``."""
        self._tell(place.encode())


def run_isolated(function: str, *arguments: object, quiet_s: float = QUIET_S) -> Scan:
    """Return ``function(workspace, *arguments)``, run in the child process.

    Parameters
    ----------
    function : str
        ``module:name``, imported in the child only. Its first argument is a
        `Workspace`, which must have allocated the array of the scan that it
        returns, or its transpose.
    quiet_s : float
        Seconds without a progress message after which the child is ended.

    Raises
    ------
    CaseError
        The error of the function; ``decoder_crashed`` if the child died,
        ``decoder_hung`` if it sent no progress message, ``too_large`` if its
        memory was too small, ``decoder_failed`` for an unexpected error.
    """
    with _reply(function, arguments, quiet_s) as (reply, handle):
        scan = _scan(reply, handle)
        if _LENDS:
            return scan
        # Windows cannot remove a file that is mapped.
        return replace(scan, volume=scan.volume.with_array(scan.volume.array.copy("K")))


def ask_isolated(function: str, *arguments: object, quiet_s: float = QUIET_S) -> Any:
    """Return ``function(workspace, *arguments)``, for a result that is JSON and not a scan."""
    with _reply(function, arguments, quiet_s) as (reply, _):
        return reply.get("value")


@contextmanager
def _reply(
    function: str, arguments: tuple[object, ...], quiet_s: float
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the reply of a child and the file of its voxels, or raise the child's error."""
    request = pickle.dumps((function, arguments))
    with (_by_line if _LENDS else _by_files)(request, quiet_s) as (reply, handle):
        if "code" in reply:
            raise CaseError(
                str(reply["code"]), str(reply["sentence"]), str(reply.get("option", ""))
            )
        yield reply, handle


@contextmanager
def _by_line(request: bytes, quiet_s: float) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield a reply and the file of its voxels, from a child that is lent this file."""
    handle = _anonymous_file()
    try:
        with _borrowed() as child:
            reply = child.ask(handle, request, quiet_s)
        yield reply, handle
    finally:
        os.close(handle)


@contextmanager
def _by_files(request: bytes, quiet_s: float) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield a reply and the file of its voxels, from a child that shares only a folder."""
    with tempfile.TemporaryDirectory(prefix="voxtile-") as name:
        work = Path(name)
        (work / "request").write_bytes(request)
        (work / "voxels").touch()
        place = work / "place"
        place.write_text("its start")
        with _starting():
            process = start(f"{__name__}:_serve_files", name, _ENVIRONMENT)
        try:
            before, since = 0, time.monotonic()
            while process.poll() is None:
                if (now := place.stat().st_mtime_ns) != before:
                    before, since = now, time.monotonic()
                if time.monotonic() - since > quiet_s:
                    raise _hung(place.read_text(errors="replace"), quiet_s)
                time.sleep(_LOOK_EVERY_S)
        finally:
            process.kill()
            process.wait()
        try:
            reply: dict[str, Any] = json.loads((work / "reply").read_bytes())
        except (OSError, ValueError) as error:
            raise _crashed(place.read_text(errors="replace"), process.returncode) from error
        handle = os.open(work / "voxels", os.O_RDONLY | _BINARY)
        try:
            yield reply, handle
        finally:
            os.close(handle)


@contextmanager
def _starting() -> Iterator[None]:
    """Explain why a child cannot be started."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"the process that decodes pixels cannot be started ({error.strerror})"
        ) from error


def _hung(place: str, quiet_s: float) -> CaseError:
    """Return the error for a child that sent no progress message."""
    return CaseError(
        "decoder_hung",
        f"the decoder made no progress for {quiet_s:g} s at {place} and was ended, so "
        "the file is probably damaged; copy it again, or leave the case out",
    )


def _crashed(place: str, code: int | None) -> CaseError:
    """Return the error for a child that died; a negative code is the signal that ended it."""
    how = f" ({ending(code)})" if code is not None and code < 0 else ""
    return CaseError(
        "decoder_crashed",
        f"the decoder process died at {place}{how}, so the file is probably "
        "damaged; copy it again, or leave the case out",
    )


class _Child:
    """The child process and the connection to it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        with _starting():
            self._process, self._channel = spawn(f"{__name__}:_serve", _ENVIRONMENT)

    @property
    def alive(self) -> bool:
        """Whether this process can use the child; a process forked from this one cannot."""
        return self.owner == os.getpid() and self._process.poll() is None

    def ask(self, handle: int, request: bytes, quiet_s: float) -> dict[str, Any]:
        """Return the reply to one request."""
        place = "its start"
        try:
            self._channel.settimeout(quiet_s)
            socket.send_fds(self._channel, [_LENGTH.pack(len(request))], [handle])
            self._channel.sendall(request)
            while not (message := _receive(self._channel)).startswith(b"{"):
                place = message.decode(errors="replace")
            reply: dict[str, Any] = json.loads(message)
            return reply
        except TimeoutError:
            self.end()
            raise _hung(place, quiet_s) from None
        except (OSError, EOFError, ValueError) as error:
            self.end()
            raise _crashed(place, self._process.returncode) from error
        except BaseException:  # Ctrl-C: the next case must not get this reply
            self.end()
            raise

    def end(self) -> None:
        """End the process at once."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._channel.close()


# Children that are not in use: as many as the threads that have read at the same time.
_LOCK = threading.Lock()
_IDLE: list[_Child] = []


@contextmanager
def _borrowed() -> Iterator[_Child]:
    """Yield a child for one thread; start a new child if all are in use."""
    child = None
    with _LOCK:
        while _IDLE and child is None:
            child = _IDLE.pop()
            if not child.alive:
                child.end()
                child = None
    child = child or _Child()
    try:
        yield child
    finally:
        with _LOCK:
            _IDLE.append(child)


@atexit.register
def _end_children() -> None:
    """End the idle children; a child in use ends when its connection is closed."""
    while _IDLE:
        _IDLE.pop().end()


def _scan(reply: dict[str, Any], handle: int) -> Scan:
    """Return the scan of a reply, with its voxels mapped read-only."""
    try:
        shape = tuple(int(size) for size in reply["shape"])
        dtype = np.dtype({name: name for name in _DTYPES}[reply["dtype"]])
        memory = mmap.mmap(
            *(handle, prod(shape) * dtype.itemsize),
            access=mmap.ACCESS_READ,
            offset=int(reply["offset"]),
        )
        array = np.frombuffer(memory, dtype).reshape(shape)
        if reply["transposed"]:
            array = array.T
        source = Source(*(tuple(map(str, uids)) for uids in reply["source"]))
        volume = Volume(array, np.array(reply["affine"], np.float64), (1, 1), source)
        notices = tuple(Notice(str(code), str(text)) for code, text in reply["notices"])
        return Scan(volume, notices, bool(reply["regridded"]))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise CaseError(
            "decoder_crashed",
            f"the decoder process gave an invalid reply ({type(error).__name__}), so the file is "
            "probably damaged; copy it again, or leave the case out",
        ) from error


def _anonymous_file() -> int:
    """Open an anonymous file and return its descriptor; the file disappears even after a kill."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("voxtile", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _send(channel: socket.socket, message: bytes) -> None:
    """Send one message."""
    channel.sendall(_LENGTH.pack(len(message)) + message)


def _receive(channel: socket.socket) -> bytes:
    """Return one message, or raise EOFError."""
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    if length > _LONGEST_REPLY:
        raise ValueError(f"a message of {length} bytes")
    return _exactly(channel, length)


def _exactly(channel: socket.socket, count: int) -> bytes:
    """Return `count` bytes, or raise EOFError."""
    received = bytearray()
    while len(received) < count:
        piece = channel.recv(min(count - len(received), 2**20))
        if not piece:
            raise EOFError
        received += piece
    return bytes(received)


def _serve(descriptor: int) -> None:
    """Answer requests until the parent ends: the main loop of the child."""
    settle_child(descriptor)
    _limit_memory()
    with socket.socket(fileno=descriptor) as channel:
        while True:
            try:
                head, handles, _, _ = socket.recv_fds(channel, _LENGTH.size, 1)
                if not head:
                    return
                head += _exactly(channel, _LENGTH.size - len(head))
                request = _exactly(channel, _LENGTH.unpack(head)[0])
                reply = _answer(request, Workspace(handles[0], partial(_send, channel)))
                _send(channel, json.dumps(reply).encode())
                os.close(handles[0])
            except (OSError, EOFError):
                return


def _serve_files(name: str) -> None:
    """Answer the request of a folder: the child of a system that cannot lend open files."""
    work = Path(name)
    settle_child(None)
    _limit_memory()
    handle = os.open(work / "voxels", os.O_RDWR | _BINARY)
    reply = _answer(
        (work / "request").read_bytes(), Workspace(handle, (work / "place").write_bytes)
    )
    (work / "half").write_text(json.dumps(reply))
    (work / "half").replace(work / "reply")


def _limit_memory() -> None:
    """Limit the address space of this process, and disable core files, which may hold scans."""
    try:
        import resource
    except ImportError:  # Windows has neither
        return
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cap = min(MOST_MEMORY_BYTES, machine // 2)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        cap = min(cap, hard)
    with suppress(ValueError, OSError):  # macOS refuses this limit
        resource.setrlimit(resource.RLIMIT_AS, (cap, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(request: bytes, workspace: Workspace) -> dict[str, Any]:
    """Return the reply to one request."""
    try:
        function, arguments = pickle.loads(request)
        module, name = function.split(":")
        scan = getattr(import_module(module), name)(workspace, *arguments)
        if not isinstance(scan, Scan):
            return {"value": scan}
        array = scan.volume.array
        transposed = not array.flags.c_contiguous
        return {
            "shape": (array.T if transposed else array).shape,
            "dtype": array.dtype.name,
            "offset": workspace.offset(array),
            "transposed": transposed,
            "affine": scan.volume.affine.tolist(),
            "source": astuple(scan.volume.source),
            "notices": [(notice.code, notice.sentence) for notice in scan.notices],
            "regridded": scan.regridded,
        }
    except CaseError as error:
        problem = error
    except MemoryError:
        problem = _too_large()
    except Exception as error:  # no error may end the child or quote a tag
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            problem = _too_large()
        else:
            problem = CaseError(
                "decoder_failed",
                f"reading failed with an unexpected error ({_where(error)}); please report it with "
                "this line",
            )
    return {"code": problem.code, "sentence": problem.bare, "option": problem.option}


def _too_large() -> CaseError:
    """Return the error for a scan that does not fit in memory."""
    cap = limit_mb() * 1e6 / 2**30
    limit = "this machine has" if cap == inf else f"the limit of its reader ({cap:.1f} GiB)"
    return CaseError(
        "too_large",
        f"the scan needs more memory than {limit}; read it on a larger machine, or crop it",
    )


def _where(error: Exception) -> str:
    """Return type and line of an error, but not its text, which may quote a tag."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    name = os.path.basename(trace.tb_frame.f_code.co_filename)  # noqa: PTH119, not a path to open
    return f"{type(error).__name__}, {name} line {trace.tb_lineno}"
