"""A held-out case has exactly one report for each view, whatever happens to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from phantoms import make_bundle, threshold_model
from runs import add_case, write_manifest

from voxtile.manifest.rows import read_manifest
from voxtile.models.spec import Network
from voxtile.preparation.plan import make_plan
from voxtile.training.folds import held_out
from voxtile.training.folds.folds import Fold

VIEWS = ("axial", "coronal")


def scored(
    folder: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, str]], coronal_model
) -> pd.DataFrame:
    """The table of a bundle with a network for each of two views."""
    networks = tuple(Network(file=f"{v}.keras", sha256="0" * 64, views=(v,)) for v in VIEWS)
    bundle = replace(make_bundle(networks=networks), folder=folder)
    monkeypatch.setattr(held_out, "make_plan", lambda bundle: make_plan(bundle.spec))
    monkeypatch.setattr(held_out, "choose_engine", lambda bundle: None)
    monkeypatch.setattr(
        held_out, "load_models", lambda bundle, engine: (threshold_model, coronal_model)
    )
    cases = read_manifest(write_manifest(folder, rows))
    held_out.score_held_out(bundle, Fold(0, 2, 0, (), cases))
    table = held_out.read_held_out(folder)
    assert table is not None
    return table


@pytest.mark.parametrize(
    ("error", "code"),
    [(MemoryError(), "out_of_memory"), (KeyError("no such layer"), "network_failed")],
)
def test_a_case_that_fails_in_a_later_view_is_counted_once_in_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    calls = []

    def fails_alone(tiles: np.ndarray) -> np.ndarray:
        """Work when both views are fused, and fail when asked again for this view alone."""
        calls.append(len(tiles))
        if len(calls) > of_one_view:
            raise error
        return threshold_model(tiles)

    of_one_view = 10**6
    scored(tmp_path, monkeypatch, [add_case(tmp_path, "a")], fails_alone)
    of_one_view = len(calls) // 2
    calls.clear()
    table = scored(tmp_path, monkeypatch, [add_case(tmp_path, "a")], fails_alone)
    assert table[["case_id", "view"]].to_numpy().tolist() == [
        ["a", "fused"],
        ["a", "axial"],
        ["a", "coronal"],
    ]
    assert table["status"].tolist() == ["ok", "ok", "failed"]
    assert table["reason"].iloc[2].startswith(f"{code}: ")
    assert "Doe" not in table["reason"].iloc[2]


def test_a_case_that_cannot_be_read_fails_in_each_view_and_the_next_one_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [add_case(tmp_path, "bad"), add_case(tmp_path, "bare", label=False)]
    rows.append(add_case(tmp_path, "good"))
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    table = scored(tmp_path, monkeypatch, rows, threshold_model)
    assert table.groupby("view")["case_id"].agg(list).to_dict() == {
        view: ["bad", "bare", "good"] for view in ("fused", *VIEWS)
    }
    assert table["status"].tolist() == ["failed", "failed", "ok"] * 3
    codes = table["reason"].fillna("").str.partition(":")[0].tolist()
    assert codes == ["empty_file", "no_label", ""] * 3
