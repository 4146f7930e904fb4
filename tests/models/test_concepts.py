"""Coded concepts: in the shipped model, and not in the identity of a model."""

from dataclasses import replace

from phantoms import make_bundle
from pydicom.sr.codedict import codes

from voxtile.export.slicer import _terminology
from voxtile.models.bundle import load_bundle
from voxtile.models.spec import Concept


def test_the_shipped_model_names_the_hippocampus_with_codes_that_dicom_knows() -> None:
    for label, part in zip(
        load_bundle("hippocampus").spec.labels, ("Anterior", "Posterior"), strict=True
    ):
        assert (label.concept.value, label.concept.scheme) == codes.SCT.Hippocampus[:2]
        assert label.modifier.value == getattr(codes.SCT, part).value
        assert f"~SCT^5366008^Hippocampus~SCT^{label.modifier.value}^{part}~" in _terminology(label)


def test_codes_do_not_change_the_identity_of_a_model() -> None:
    bundle = make_bundle()
    concept = Concept(value="10200004", scheme="SCT", meaning="Liver")
    (label, *others) = bundle.spec.labels
    coded = label.model_copy(update={"concept": concept, "modifier": concept})
    spec = bundle.spec.model_copy(update={"labels": (coded, *others)})
    assert replace(bundle, spec=spec).sha256 == bundle.sha256
    assert "modifier" not in label.model_dump()
    assert coded.model_dump()["modifier"]["value"] == "10200004"
    shipped = "cab6bfded22c7966581242b5bb2c887498e40d7a05c6f735d0f614f132d87ec7"
    assert load_bundle("hippocampus").sha256 == shipped
