"""Rows of labels: every metric of the table, and back from a record."""

import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest

from voxtile.scoring.columns import METRICS
from voxtile.scoring.overlap import plain_labels
from voxtile.scoring.rows import LabelRow, label_rows
from voxtile.scoring.score import Measures
from voxtile.volume import Volume

MASK = Volume(np.array([[[1, 1, 0, 0]]], np.uint8), np.eye(4))
REFERENCE = MASK.with_array(np.array([[[0, 1, 1, 0]]], np.uint8))
LABELS = plain_labels({1: "one"})


def test_every_metric_is_measured_and_is_an_attribute_of_a_row() -> None:
    measures = Measures(lesions=True, per_lesion=True)
    (row,) = label_rows(MASK, REFERENCE, LABELS, measures)
    for metric in METRICS:
        value = getattr(row, metric.name)
        assert isinstance(value, int if metric.kind == "whole" else float), metric.name
    assert row.dice == 0.5
    with pytest.raises(AttributeError, match="has no attribute 'dise'"):
        _ = row.dise


def test_a_metric_that_was_not_measured_is_none() -> None:
    (scored,) = label_rows(MASK, REFERENCE, LABELS, Measures())
    assert (scored.dice, scored.lesion_f1, scored.lesions_missed) == (0.5, None, None)
    (alone,) = label_rows(MASK, None, LABELS, Measures())
    assert (alone.voxels_pred, alone.volume_ml_pred, alone.dice) == (2, 0.002, None)
    assert alone.nsd == {"nsd_1mm": None, "nsd_2mm": None}


def test_the_record_of_a_row_has_the_metrics_in_the_order_of_the_table() -> None:
    (row,) = label_rows(MASK, REFERENCE, LABELS, Measures())
    names = ["label", "label_name", "status", *(metric.name for metric in METRICS), "nsd"]
    names += ["lesions"]
    assert list(asdict(row)) == names
    assert LabelRow(**asdict(row)) == replace(row) == pickle.loads(pickle.dumps(row))
    with pytest.raises(TypeError, match="unexpected keyword argument 'new'"):
        LabelRow(**asdict(row), new=2)
