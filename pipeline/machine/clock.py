"""The time, as every record gives it."""

from datetime import UTC, datetime


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
