"""Code blocks of the documentation, and a folder with everything that their commands name."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from bundles import write_bundle
from phantoms import ball

from voxtile.run_folder.fingerprint import content_hash
from voxtile.writing.nifti import write_mask, write_volume

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")}
    - {ROOT / "CHANGELOG.md"}
)
MODELS = ("hippocampus", "my_model", "liver", "ellipses", "my_organs", "models/first")


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a block of `sh`, without comments, each in one line."""
        whole = self.text.replace("\\\n", " ")
        lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in whole.splitlines()]
        return [re.sub(r"\s+", " ", line) for line in lines if line]


def blocks() -> list[Block]:
    """Every block of every page, in order; drawings and output are `text`."""
    return [
        Block(str(page.relative_to(ROOT)), language, text)
        for page in PAGES
        for language, text in re.findall(
            r"^ *```(\w*)\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE
        )
    ]


def write_scene(folder: Path, network: bytes) -> Path:
    """Write scans, manifests and models with the names that the pages use."""
    image, truth = ball()
    ids = [f"p{number:03}" for number in range(1, 7)]
    for number, case in enumerate(ids):
        other = image.with_array(image.array + number)  # no two scans are equal
        write_volume(folder / f"scans/{case}.nii.gz", other)
        write_mask(folder / f"labels/{case}.nii.gz", truth)
        for data in ("my_scans", "DATA"):
            write_volume(folder / f"{data}/images/{case}.nii.gz", other)
            write_mask(folder / f"{data}/labels/{case}.nii.gz", truth)
        subject = f"bids/sub-0{number + 1}/anat/sub-0{number + 1}_T1w.nii.gz"
        write_volume(folder / subject, other)
        mask = f"bids/derivatives/manual/sub-0{number + 1}/anat/sub-0{number + 1}_label-ball_mask"
        write_mask(folder / f"{mask}.nii.gz", truth)
    write_volume(folder / "new_scans/n1.nii.gz", image)
    write_volume(folder / "scan.nii.gz", image)
    (folder / "bids/dataset_description.json").write_text('{"Name": "b", "BIDSVersion": "1.10"}')
    splits = ("train", "train", "train", "val", "val", "test")
    rows = [
        f"{case},scans/{case}.nii.gz,labels/{case}.nii.gz,{split},{case}\n"
        for case, split in zip(ids, splits, strict=True)
    ]
    for name in ("cases", "manifest", "organs/cases", "pictures/cases", "manifests/mine"):
        write_manifest(folder / f"{name}.csv", rows)
    write_manifest(folder / "pool.csv", rows[:3])
    write_manifest(folder / "train.csv", rows[3:])
    (folder / "pictures/labels.csv").write_text("value,name\n1,ball\n")
    (folder / "cv").mkdir()
    (folder / "cv/recipe.toml").write_text("epochs = 3\n")
    for model in MODELS:
        (folder / model).parent.mkdir(exist_ok=True)
        write_bundle(folder / model, network, name=Path(model).name)
        (folder / model / "README.md").write_text("# A model\n")
    return folder


def write_manifest(path: Path, rows: list[str]) -> None:
    """Write a manifest; its paths lead from its own folder to the scans."""
    path.parent.mkdir(exist_ok=True)
    up = "../" * (path.parent.name in ("organs", "pictures", "manifests"))
    text = "".join(rows).replace(",scans/", f",{up}scans/").replace(",labels/", f",{up}labels/")
    path.write_text(f"case_id,image,label,split,group\n{text}")


def review(folder: Path) -> None:
    """Reject the masks of the first two cases, and correct them."""
    rows = []
    for case in ("p001", "p002"):
        mask = folder / f"out/masks/{case}.nii.gz"
        rows.append(f"{case},rejected,AB,,{content_hash(mask)},\n")
        (folder / "corrected").mkdir(exist_ok=True)
        shutil.copy(folder / f"labels/{case}.nii.gz", folder / f"corrected/{case}.nii.gz")
    head = "case_id,review,reviewer,note,mask_sha256,reviewed\n"
    (folder / "review.csv").write_text(head + "".join(rows))
