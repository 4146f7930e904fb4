"""Versions of installed packages, by the name under which they are imported."""

from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec


def installed_version(package: str) -> str | None:
    """Return the version of a package; None if it is missing or has no metadata.

    The package may come from a distribution of another name, which is then added, because its
    programs are others: ``2.21.0 (tensorflow-cpu)``.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        if find_spec(package) is None:
            return None
    named = [f"{version(name)} ({name})" for name in sorted(_distributions(package))]
    return ", ".join(named) or None


@cache
def _distributions(package: str) -> frozenset[str]:
    """Return the distributions that hold a package; this reads the lists of files of all."""
    return frozenset(packages_distributions().get(package, ()))
