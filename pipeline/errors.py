"""What can go wrong, as a tree.

    VoxtileError
    |-- ManifestError      the list of cases is unusable; nothing was run
    |-- CaseError          one scan or label is unusable; the others go on
    |-- SourceError        a file from elsewhere is not what it should be; nothing of it is kept
    |-- ModelError         a bundle or spec is refused
    |-- EnvironmentFault   disk, memory or a lock; the batch cannot go on

`Notice` is what did not stop a case, and is reported with it.
"""

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


class VoxtileError(Exception):
    """Anything voxtile refuses, in words a researcher can act on."""


class ManifestError(VoxtileError):
    """A manifest with problems, all of them at once.

    Parameters
    ----------
    problems : iterable of str
        One sentence each, with the line number where there is one.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class CaseError(VoxtileError):
    """One case that cannot be done, and why.

    Parameters
    ----------
    code : str
        Stable name of the reason, such as ``truncated``; for programs.
    sentence : str
        What came, what was needed, what to do. Never a value of a DICOM text
        tag and never the name of a DICOM file: both may identify a patient.
    option : str
        What a user may choose instead, such as "pass --nan fill": how scans
        are read can be chosen, how labels are not.

    Attributes
    ----------
    bare : str
        The sentence as it was given.
    sentence : str
        With the option.
    """

    def __init__(self, code: str, sentence: str, option: str = "") -> None:
        self.code = code
        self.bare = sentence
        self.option = option
        self.sentence = f"{sentence}, or {option}" if option else sentence
        super().__init__(self.sentence)

    def __reduce__(self) -> tuple[type["CaseError"], tuple[str, str, str]]:
        # Exceptions pickle their one message; this one travels between processes with its parts.
        return CaseError, (self.code, self.bare, self.option)


class SourceError(VoxtileError):
    """Something downloaded is not what it should be: its checksum, or what is in it."""


class ModelError(VoxtileError, ValueError):
    """A bundle or spec that is refused; says what is wrong and what to do."""


class EnvironmentFault(VoxtileError):
    """Disk, memory, permission or a lock: nothing that another scan would mend."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth knowing that did not stop a case; ends in its JSON and report.

    Parameters
    ----------
    code : str
        Stable name, for programs.
    sentence : str
        For people. No value of a DICOM text tag, no name of a DICOM file.
    """

    code: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"


def place_of(error: BaseException) -> str:
    """Return the file and line where an exception was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else "unknown"


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
