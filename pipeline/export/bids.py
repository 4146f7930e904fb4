"""Write a BIDS derivatives folder: masks, their labels, and the program that made them.

Brain Imaging Data Structure 1.10, "Derivatives" and "Imaging derivatives:
Segmentations": ``sub-<id>/anat/sub-<id>_desc-<model>_dseg.nii.gz`` with a JSON
beside it, one ``dseg.tsv`` and one ``dataset_description.json``.
"""

import json
import re
import shutil
from pathlib import Path

from voxtile.errors import CaseError, Notice
from voxtile.machine.files import replacing, write_json, write_text
from voxtile.machine.spreadsheet import escaped
from voxtile.version import __version__
from voxtile.volume import Volume

from .finished import Finished

_VERSION = "1.10.0"
# A case id that is a BIDS name keeps its entities, but not its suffix (T1w).
_ENTITIES = re.compile(r"(sub-[A-Za-z0-9]+)((?:_[a-z]+-[A-Za-z0-9]+)*)(?:_[A-Za-z0-9]+)?")


def write_bids(case: Finished, mask: Volume) -> tuple[Notice, ...]:
    """Write the case into ``exports/bids/``, and the files that all cases share.

    CaseError if another case has the same name in BIDS, where names have only letters and digits.
    """
    write_derivative(case, case.target("bids"))
    return ()


def write_derivative(case: Finished, root: Path) -> None:
    """Write the case into a derivatives data set; errors as from `write_bids`."""
    entities = bids_entities(case.case_id)
    model = bids_label(case.model)
    stem = "_".join([*entities, f"desc-{model}", "dseg"])
    folder = root / entities[0]
    if len(entities) > 1 and entities[1].startswith("ses-"):
        folder /= entities[1]
    folder /= "anat"
    sidecar = folder / f"{stem}.json"
    if sidecar.exists() and json.loads(sidecar.read_bytes()).get("VoxtileCaseID") != case.case_id:
        raise CaseError(
            "bids_name",
            f"the name {entities[0]} in BIDS belongs to another case, because ids that differ only "
            "in '.', '_' and '-' have one name there; rename a case",
        )
    mask_file = folder / f"{stem}.nii.gz"
    if not sidecar.exists():
        _refuse_other(mask_file, b"")
    _refuse_other(root / "dataset_description.json", b'"voxtile"')
    _refuse_other(root / "README.md", b"Masks by voxtile")
    write_json(
        sidecar,
        {
            "Description": f"Segmentation by the model {case.model} of voxtile {__version__}",
            "Manual": False,
            "VoxtileCaseID": case.case_id,
        },
    )
    with replacing(mask_file) as file, case.mask_path.open("rb") as source:
        shutil.copyfileobj(source, file)
    write_text(root / f"desc-{model}_dseg.tsv", _table(case))
    write_json(
        root / "dataset_description.json",
        {
            "Name": f"Segmentations by {case.model}",
            "BIDSVersion": _VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {"Name": "voxtile", "Version": __version__, "Description": f"model {case.model}"}
            ],
        },
    )
    write_text(
        root / "README.md",
        "Masks by voxtile; the dseg.tsv file explains their values. Masks are patient data.\n",
    )


def _refuse_other(path: Path, said: bytes) -> None:
    """Refuse to replace a file that does not say that it is from voxtile."""
    if path.is_file() and not (said and said in path.read_bytes()):
        raise CaseError(
            "not_ours",
            f"the derivatives have another {path.name}, which would be replaced; move it away",
        )


def bids_label(name: str) -> str:
    """Return a name as the value of an entity, which has only letters and digits."""
    return re.sub(r"[^A-Za-z0-9]", "", name)


def bids_entities(case_id: str) -> list[str]:
    """Return the entities of a case, the subject first.

    Examples
    --------
    >>> bids_entities("sub-01_ses-a_T1w")
    ['sub-01', 'ses-a']
    >>> bids_entities("hippocampus_006")
    ['sub-hippocampus006']
    """
    match = _ENTITIES.fullmatch(case_id)
    if match:
        rest = [entity for entity in match[2].split("_") if entity]
        return [match[1], *(entity for entity in rest if not entity.startswith("desc-"))]
    name = bids_label(case_id)
    if not name:
        raise CaseError(
            "bids_name",
            f"case id {case_id!r} has no letter or digit, but a name in BIDS needs one; rename it",
        )
    return [f"sub-{name}"]


def _table(case: Finished) -> str:
    """Return ``dseg.tsv``: index, name and colour of each label."""
    lines = ["index\tname\tcolor"]
    lines += [
        f"{label.value}\t{escaped(' '.join(label.name.split()))}\t{label.color}"
        for label in case.labels
    ]
    return "\n".join(lines) + "\n"
