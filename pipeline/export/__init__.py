"""Masks in the formats of other programs, from a finished run or while one runs.

forgetting.py     what earlier runs exported of a case, away
finished.py       a run folder -> its finished cases, each with labels and mask
exporting.py      cases and formats -> files, one case at a time
terminology.py    labels -> coded concepts, for DICOM and Slicer

slicer.py         .seg.nrrd: a segmentation of 3D Slicer
tables.py         label tables for Slicer and ITK-SNAP, beside the masks
dicom_seg.py      DICOM SEG that refers to its series. The writing side's only highdicom
bids.py           a BIDS derivatives folder
binary.py         one NIfTI per label
mesh.py           a label -> a smooth surface in world millimetres
surfaces.py       meshes -> STL and GLB files
probabilities.py  what the network said, while a run infers

``docs/export.md`` says what each file holds, and what it copies of the source.
"""

from .exporting import FORMATS, Exported, check_formats, export_case, export_run
from .finished import Finished
from .forgetting import clear_exports, forget_exports
from .probabilities import keeping_probabilities

__all__ = [
    "FORMATS",
    "Exported",
    "Finished",
    "check_formats",
    "clear_exports",
    "export_case",
    "export_run",
    "forget_exports",
    "keeping_probabilities",
]
