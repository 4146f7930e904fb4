"""JSON in the page."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from voxtile.report.page.page import json_text


@settings(max_examples=30)
@given(st.recursive(st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_json_in_the_page_is_unchanged_and_ends_no_element(value) -> None:
    text = json_text({"value": value})
    assert json.loads(text) == {"value": value}
    assert "<" not in text
