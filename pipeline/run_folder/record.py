"""Read the record of a case, and check every value that damage may have changed.

Imports no large package, because `voxtile status` reads thousands of records.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from voxtile.machine.json_objects import ANY_KEY, check_shape, read_sealed
from voxtile.scoring.columns import METRICS, column_named

from .layout import RunFolder

Kept = TypeVar("Kept")

_FLAG = {"code": str, "sentence": str, "severity": float, "label": (int, NoneType)}
_SHOWN = {"case_id": str, "status": str, "reason": (dict, NoneType), "settings_sha256": str}
_SHAPE = {
    "labels": [
        {"label": int, "label_name": str, "status": str, "nsd": {ANY_KEY: (float, NoneType)}}
    ],
    "timings_s": {ANY_KEY: float},
    "seconds": float,
    "peak_memory_mb": (float, NoneType),
    "qc": {
        "entropy": (float, NoneType),
        "scan": (dict, NoneType),
        "flags": [_FLAG],
        "dice": [{"label": int, "predicted": float, "lower": float}],
    },
}
_METRICS = {metric.name: metric for metric in METRICS}


def read_record(
    path: Path, *, sealed: bool, required: tuple[str, ...] = (), whole: bool = True
) -> dict[str, Any]:
    """Read ``cases/<case_id>.json``.

    With `sealed` it must hold the digest of its content, as every record does except those of
    folders that version 0.1.0 wrote. Without `whole`, values that `voxtile status` does not show
    are checked only by the digest. OSError if the record cannot be read; ValueError if it is
    damaged: the message names the key, never its value.
    """
    record, vouched = read_sealed(path, _SHOWN, required=("case_id", "status", *required))
    if sealed and not vouched:
        raise ValueError("its digest is missing")
    if f"{record['case_id']}.json" != path.name:
        raise ValueError("it is the record of another case")
    if record["status"] not in ("done", "failed"):
        raise ValueError("status must be done or failed")
    if not whole and vouched:
        return record
    check_shape(record, _SHAPE)
    for row in record.get("labels", ()):
        _check_numbers(row)
    for name in ("seconds", "peak_memory_mb"):
        if not 0 <= (record.get(name) or 0) < math.inf:
            raise ValueError(f"{name} must be at least 0")
    return record


def read_records(
    folder: RunFolder,
    case_ids: tuple[str, ...],
    settings: str,
    keep: Callable[[dict[str, Any]], Kept],
    *,
    sealed: bool,
    whole: bool = True,
) -> tuple[dict[str, Kept], dict[str, str]]:
    """Read the records of a run, and return what `keep` makes of each.

    Records with another settings hash than `settings` do not count, unless `settings` is empty.
    The first mapping is by case id, in the order of `case_ids`. The second has the reason why each
    other case does not count, which is empty if the case has no record. A record for which `keep`
    raises ValueError is damaged.
    """
    kept, missing = {}, {}
    for case_id in case_ids:
        try:
            record = read_record(folder.record(case_id), sealed=sealed, whole=whole)
            if settings and record.get("settings_sha256") != settings:
                missing[case_id] = "its record is of another run"
            else:
                kept[case_id] = keep(record)
        except FileNotFoundError:
            missing[case_id] = ""
        except OSError as error:
            missing[case_id] = f"its record cannot be read ({error.strerror})"
        except ValueError as error:
            missing[case_id] = f"its record is damaged: {error}"
    return kept, missing


def _check_numbers(row: Mapping[str, Any]) -> None:
    """Refuse a number that no mask can have, such as a precision above 1 or a negative volume."""
    for name, value in {**row, **row.get("nsd", {})}.items():
        column = _METRICS.get(name) or (column_named(name) if name in row.get("nsd", {}) else None)
        if column is None or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{column.name} must be a number")
        if not column.allows(value):
            raise ValueError(f"{column.name} is out of its range")
