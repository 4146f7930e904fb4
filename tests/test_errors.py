"""Errors: one problem or several, and their way between processes."""

import pickle

from voxtile.errors import ManifestError


def test_a_manifest_error_has_one_sentence_or_several_also_in_another_process() -> None:
    assert ManifestError("no rows").problems == ("no rows",)
    assert ManifestError(["one", "two"]).problems == ("one", "two")
    assert str(pickle.loads(pickle.dumps(ManifestError(["one", "two"])))) == "one\ntwo"
