"""The command line as a whole: its help, its version, and how little it imports."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import invoke

from voxtile import __version__

HEAVY = ("keras", "nibabel", "numpy", "pandas", "pydantic", "pydicom", "scipy", "skimage")


def test_help_imports_nothing_heavy_and_few_modules_of_voxtile() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']; from voxtile.cli import main\n"
        "try: main()\n"
        "finally: print('\\n', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rstrip().rpartition("\n")
    assert "Exit codes" in text
    assert [name for name in HEAVY if name in modules.split()] == []
    assert len([name for name in modules.split() if name.startswith("voxtile.")]) <= 35


@pytest.mark.parametrize("command", ["run", "train"])
def test_the_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    heavy = [name for name in HEAVY if name != "pydantic"]  # typer imports it where it is installed
    code = (
        f"import sys; sys.argv[1:] = ['{command}', '--help']; from voxtile.cli import main\n"
        f"try: main()\n"
        f"finally: print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_the_package_is_a_command() -> None:
    command = [sys.executable, "-m", "voxtile", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"voxtile {__version__}\n"


def test_models_lists_the_shipped_models() -> None:
    assert invoke("models")[0] == 0


def test_doctor_lists_what_the_machine_has(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"openvino": {"bfloat16": 1.94, "int8": 3.8}}
    monkeypatch.setattr("voxtile.measuring.doctor.gains", lambda library: rates.get(library, {}))
    code, said = invoke("doctor", "--out", cohort)
    assert code == 0, said
    for words in ("tensorflow", "memory free", "can be written", " core"):
        assert words in said
    assert "openvino, times the speed of float32: bfloat16 1.9, int8 3.8\n" in said
    (cohort / "file").touch()
    code, said = invoke("doctor", "--out", cohort / "file")
    assert code == 6
    assert "BAD" in said
