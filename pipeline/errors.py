"""What can go wrong, as a tree.

    VoxtileError
    |-- UsageError         an option or argument has a wrong value
    |-- ManifestError      the list of cases is unusable; nothing was run
    |-- CaseError          one scan or label is unusable; other cases go on
    |-- SourceError        a downloaded file is not what it should be; it is not kept
    |-- ModelError         a bundle or spec is refused
    |-- EnvironmentFault   disk, memory or a lock; the batch cannot go on

A `Notice` is about something that did not stop a case, and is reported with the case.
`raised_by`, `first_few` and `counted` help to write messages. The text of other libraries' errors
may quote a patient's data, so only their type and `place_of` are shown; a network's own is shown.
"""

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


class VoxtileError(Exception):
    """Anything that voxtile refuses, with what a researcher can do about it."""


class UsageError(VoxtileError, ValueError):
    """An option or argument with a wrong value; says which values are valid."""


class ManifestError(VoxtileError):
    """A manifest that cannot be used, with all of its problems at once.

    Parameters
    ----------
    problems : str or iterable of str
        One sentence each, with the line number where there is one.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class CaseError(VoxtileError):
    """One case that cannot be processed, and why.

    Parameters
    ----------
    code : str
        Stable name of the reason, such as ``truncated``; for programs.
    sentence : str
        What came, what was needed, what to do. Never a value of a DICOM text
        tag and never the name of a DICOM file: both may identify a patient.
    option : str
        What a user may choose instead, such as "pass --nan fill". Scans have
        such options, labels do not. The attribute `sentence` ends with the
        option; `bare` does not.
    """

    def __init__(self, code: str, sentence: str, option: str = "") -> None:
        self.code = code
        self.bare = sentence
        self.option = option
        self.sentence = f"{sentence}, or {option}" if option else sentence
        super().__init__(self.sentence)

    def __reduce__(self) -> tuple[type["CaseError"], tuple[str, str, str]]:
        # Exceptions pickle only their message; other processes must get all parts of this one.
        return CaseError, (self.code, self.bare, self.option)


class SourceError(VoxtileError):
    """A downloaded file has another checksum or other content than expected."""


class ModelError(VoxtileError, ValueError):
    """A bundle or spec that cannot be used; says what is wrong and what to do."""


class EnvironmentFault(VoxtileError):
    """A problem of disk, memory, permission or a lock, which every other case would have too."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A fact about a case that did not stop the case; part of its record and the report."""

    code: str  # stable name, for programs
    # For people. No value of a DICOM text tag, no name of a DICOM file.
    sentence: str

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"


def place_of(error: BaseException) -> str:
    """Return the innermost file and line of voxtile that an exception passed."""
    frames = list(traceback.walk_tb(error.__traceback__))
    ours = [pair for pair in frames if pair[0].f_globals.get("__name__", "").startswith("voxtile")]
    for frame, line in reversed(ours or frames):
        return f"{Path(frame.f_code.co_filename).name} line {line}"
    return "unknown"


def raised_by(error: BaseException) -> str:
    """Return what third-party code raised, and where: "raised ValueError: deep (net.py line 3)".

    The line is the innermost one outside voxtile and installed packages, if there is one.
    """
    words = (str(error).strip().splitlines() or [""])[0][:200]
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    places = [
        f" ({Path(frame.f_code.co_filename).name} line {line})"
        for frame, line in frames
        if not frame.f_globals.get("__name__", "").startswith("voxtile")
        and "site-packages" not in frame.f_code.co_filename
    ]
    return f"raised {type(error).__name__}{': ' if words else ''}{words}{(places or [''])[-1]}"


def first_few(items: Sequence[object], shown: int = 10) -> str:
    """Return the first items for a message, and how many more there are.

    Examples
    --------
    >>> first_few(["p1", "p2", "p3"], shown=2)
    'p1, p2 and 1 more'
    """
    text = ", ".join(map(str, items[:shown]))
    return text if len(items) <= shown else f"{text} and {len(items) - shown} more"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as "1 case" or "2 cases".

    Examples
    --------
    >>> counted(1, "case"), counted(0, "study", "studies")
    ('1 case', '0 studies')
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
