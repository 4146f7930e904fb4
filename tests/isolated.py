"""Functions that run in the child process and fail there in various ways."""

import os
import signal
import sys
import time

import numpy as np

from voxtile.errors import CaseError, Notice
from voxtile.reading.isolation import Workspace
from voxtile.reading.scan import Scan
from voxtile.volume import Volume


def ramp(workspace: Workspace, shape: tuple[int, int, int]) -> Scan:
    """A scan that counts its voxels."""
    array = workspace.allocate(shape, np.dtype(np.int32))
    array[...] = np.arange(array.size).reshape(shape)
    return Scan(Volume(array.T, np.diag([2.0, 3.0, 4.0, 1.0])), (Notice("ramp", "a ramp"),))


def process(workspace: Workspace) -> Scan:
    """A scan that holds the number of its process."""
    array = workspace.allocate((1, 1, 1), np.dtype(np.int64))
    array[...] = os.getpid()
    return Scan(Volume(array, np.eye(4)))


def die(workspace: Workspace) -> Scan:
    """End by a segmentation fault, as after a heap overflow."""
    workspace.at("file 2 of 3")
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def fall_silent(workspace: Workspace) -> Scan:
    """Hang."""
    workspace.at("file 1 of 3")
    time.sleep(60)
    raise AssertionError


def refuse(_: Workspace) -> Scan:
    """Refuse a scan."""
    raise CaseError("truncated", "file 2 of 3 ends early")


def fail(_: Workspace) -> Scan:
    """Fail with a patient's name in the message."""
    raise RuntimeError("Doe^Jane")


def eat(workspace: Workspace) -> Scan:
    """Allocate more memory for voxels than the limit allows."""
    workspace.allocate((2**20, 2**10, 2**6), np.dtype(np.int16))
    raise AssertionError


def eat_heap(_: Workspace) -> Scan:
    """Allocate more memory outside of the workspace than the limit allows."""
    np.ones(2**36, np.uint8)
    raise AssertionError


def chatter(workspace: Workspace) -> Scan:
    """Print a patient's name, as libraries do, and return a scan."""
    for stream in (sys.stdout, sys.stderr):
        print("Doe^Jane", file=stream, flush=True)
    os.write(1, b"Doe^Jane")
    os.write(2, b"Doe^Jane")
    return ramp(workspace, (1, 2, 3))
