"""Damaged JSON is one clear error that quotes no value."""

from types import NoneType

import pytest

from voxtile.machine.json_objects import ANY_KEY, parse_object

SHAPE = {
    "name": str,
    "counts": [int],
    "seconds": (float, NoneType),
    "inner": {"flag": bool, ANY_KEY: str},
}


@pytest.mark.parametrize(
    "text", [b'{"name": "a", "seconds": 3, "inner": {"flag": true, "x": "y"}, "other": []}', b"{}"]
)
def test_an_object_of_the_shape_is_read_with_its_other_keys(text: bytes) -> None:
    assert parse_object(text, SHAPE).get("other", []) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"name": "a"', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"seconds": NaN}', "NaN is not allowed"),
        (b'{"seconds": 1e999}', "too large is not allowed"),
        (b'{"other": 9223372036854775808}', "too large is not allowed"),
        (b"[]", "must be a JSON object"),
        (b'{"name": 3}', "^name must be text$"),
        (b'{"counts": [1, true]}', r"^counts\[1\] must be a whole number$"),
        (b'{"counts": {}}', "^counts must be a list$"),
        (b'{"seconds": "Doe^John"}', "^seconds must be a number or null$"),
        (b'{"inner": []}', "^inner must be an object$"),
        (b'{"inner": {"Doe^John": 1}}', r"^inner\.\* must be text$"),
    ],
)
def test_anything_else_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_object(text, SHAPE)


def test_missing_keys_are_named() -> None:
    with pytest.raises(ValueError, match="it lacks pid, host"):
        parse_object(b"{}", {}, required=("pid", "host"))
