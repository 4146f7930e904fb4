"""Damaged JSON is one clear error that quotes no value."""

import json
from pathlib import Path
from types import NoneType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.machine.json_objects import (
    ANY_KEY,
    SEAL,
    TEXT_SEAL,
    parse_object,
    read_sealed,
    sealed_text,
    unsealed,
)

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


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _VALUES, max_size=4))
def test_a_sealed_text_gives_its_content_again(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("seal") / "x.json"
    path.write_bytes(sealed_text(content).encode("utf-8", "surrogatepass"))
    read, is_sealed = read_sealed(path, {})
    assert is_sealed
    assert unsealed(read) == unsealed(content)


def test_every_changed_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    content = {"case_id": "a", "dice": 0.91, "labels": [{"label": 1, "name": "é"}]}
    path = tmp_path / "x.json"
    text = sealed_text(content).encode()
    for place in range(len(text)):
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        try:
            read, is_sealed = read_sealed(path, {})
        except ValueError:
            continue
        assert not is_sealed or unsealed(read) == content


def test_text_that_another_program_wrote_again_is_sealed_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    written = json.loads(sealed_text({"b": 1, "a": [2.5]}))
    path.write_text(json.dumps(written, sort_keys=True))
    assert read_sealed(path, {}) == (written, True)
    assert set(written) == {"a", "b", SEAL, TEXT_SEAL}
    path.write_text(json.dumps({**written, "b": 3}))
    with pytest.raises(ValueError, match="was changed after it was written"):
        read_sealed(path, {})
    path.write_text("{}")
    assert read_sealed(path, {}) == ({}, False)
