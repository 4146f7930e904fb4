"""Write masks in the formats of other programs, during a run or from a finished one.

formats.py        the table of formats
finished.py       a run folder -> its finished cases, each with labels and mask
exporting.py      cases and formats -> files, one case at a time
forgetting.py     remove the exports of earlier runs
terminology.py    labels -> coded concepts, for DICOM and Slicer

slicer.py         .seg.nrrd: a segmentation of 3D Slicer
tables.py         label tables for Slicer and ITK-SNAP, beside the masks
dicom_seg.py      DICOM SEG that refers to its series
bids.py           a BIDS derivatives folder
binary.py         one NIfTI per label
picture.py        PNG, for the masks of pictures
mesh.py           a label -> a smooth surface in world millimetres
surfaces.py       meshes -> STL and GLB files
probabilities.py  probabilities of each label, during inference

``docs/export.md`` describes each file, and what it copies from the source.
"""

from .exporting import Exported, export_case, export_run
from .finished import Finished
from .forgetting import clear_exports, clear_shared_exports, exported_paths, forget_exports
from .formats import FORMATS, check_formats
from .probabilities import keeping_probabilities

__all__ = [
    "FORMATS",
    "Exported",
    "Finished",
    "check_formats",
    "clear_exports",
    "clear_shared_exports",
    "export_case",
    "export_run",
    "exported_paths",
    "forget_exports",
    "keeping_probabilities",
]
