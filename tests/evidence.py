"""What `voxtile models verify` may have measured."""

from voxtile.engines.measurements import Evidence, Measurement, processor_kind
from voxtile.models.bundle import Bundle


def measured(precision="bfloat16", speed=2.0, agreement=0.9995, change=0.0, **more) -> Measurement:
    known = {"engine": "keras", "version": "1.0", "dice_change": {"ball": change}}
    known |= {"dice_bound": abs(change), **more}
    return Measurement(precision=precision, agreement=agreement, tiles_per_s=speed, **known)


def evidence_for(bundle: Bundle, *measurements: Measurement, **changes) -> Evidence:
    known = {
        "processor": processor_kind(),
        "source": "cases.csv",
        "planes": 32,
        "label_planes": {"ball": 8},
        "label_voxels": {"ball": 1000},
        **changes,
    }
    return Evidence(
        sha256=bundle.sha256,
        threads=2,
        cases=3,
        labelled=True,
        date="2026-01-01T00:00:00+00:00",
        measurements=(measured("float32", 1.0, 1.0), *measurements),
        **known,
    )
