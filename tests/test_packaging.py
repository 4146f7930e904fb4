"""What the package declares about itself agrees: versions, files, tools and Python versions."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import voxtile

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def test_the_version_is_written_once_and_the_citation_agrees() -> None:
    assert SETUPTOOLS["dynamic"]["version"] == {"attr": "voxtile.version.__version__"}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == voxtile.__version__


def test_the_changelog_has_a_section_for_the_version() -> None:
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert voxtile.__version__ in sections


def test_every_file_of_a_package_is_in_the_wheel() -> None:
    for package, folder in SETUPTOOLS["package-dir"].items():
        packed = {
            path
            for pattern in SETUPTOOLS["package-data"].get(package, [])
            for path in (ROOT / folder).glob(pattern)
        }
        inner = {ROOT / path for path in SETUPTOOLS["package-dir"].values()} - {ROOT / folder}
        for path in (ROOT / folder).rglob("*"):
            mine = not any(path.is_relative_to(other) for other in inner if other > ROOT / folder)
            if path.is_file() and path.suffix not in (".py", ".pyc") and mine:
                assert path in packed, path.relative_to(ROOT)


def test_ci_runs_every_python_that_the_package_supports() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    declared = [
        words.removeprefix("Programming Language :: Python :: ")
        for words in PYPROJECT["project"]["classifiers"]
        if words.startswith("Programming Language :: Python :: 3.")
    ]
    for name in ("test", "wheel"):
        assert jobs[name]["strategy"]["matrix"]["python"] == declared


def test_ci_runs_scripts_that_exist() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert sorted(commands) == [
        "scripts/check",
        "scripts/container ${{ matrix.kind }}",
        "scripts/demo",
        "scripts/install workflows",
        "scripts/site",
        "scripts/test",
        "scripts/test tests/test_examples.py -n 0 -rs",
        "scripts/test tests/test_site.py",
        "scripts/test-backend ${{ matrix.backend }}",
        "scripts/wheel",
    ]
    for command in commands:
        assert (ROOT / command.split()[0]).stat().st_mode & 0o111


def test_a_commit_is_checked_by_the_tools_of_scripts_check() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"].split(" --")[0] for repo in config["repos"] for hook in repo["hooks"]]
    check = (ROOT / "scripts/check").read_text().replace(" --check", "")
    for line in check.splitlines():
        if line.startswith(".venv/bin/"):
            assert line.removesuffix(" .") in hooks


@pytest.mark.xdist_group("alone")
def test_the_tests_of_a_group_run_in_one_process(request: pytest.FixtureRequest) -> None:
    # pytest-xdist 3.8 groups by the end of the name, which pytest 9.2 silently takes away.
    if not request.config.getoption("loadgroup", False):
        pytest.skip("tests are divided between processes by group only in scripts/test")
    assert request.node.nodeid.endswith("@alone")
