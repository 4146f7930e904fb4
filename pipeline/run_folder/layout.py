"""Every path of a run folder.

out/
run.json, run-2-of-8.json           what was run: by a whole run, by a shard
cases/<case_id>.json                the record of a case
masks/<case_id>.nii.gz
qc/<case_id>.png                    its picture
images/<case_id>.nii.gz             the scan on the grid of the mask, if that is a new grid
exports/<format>/                   masks for other programs
manifest.csv                        the manifest, if the run listed the scans itself
report.csv  lesions.csv  summary.*  the tables, made from the records
report.html  report_files/          the page
events.jsonl, events-2-of-8.jsonl   what happened
running.json, running-2-of-8.json   progress, only while a run works
.lock, .lock-2-of-8                 the lock, and its holder in .lock.json
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .shard import Shard

_ANY_SHARD = "*-of-*"
# Names of the files that belong to all cases together.
_SHARED = re.compile(
    r"(?:run|running|\.lock)(?:-\d+-of-\d+)?\.json|\.probe(?:-\d+-of-\d+)?"
    r"|manifest\.csv|report\.(?:csv|html)|lesions\.csv|summary\.(?:csv|json|md|tex)"
    r"|slicer\.ctbl|itksnap_labels\.txt|itksnap\.sh|niivue\S*\.js|LICENSE-niivue\.txt"
)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that a run, its shards or an evaluation writes.

    Methods with a `shard` return the path that belongs to this shard; if it is
    None, the path that belongs to a run of all cases.
    """

    path: Path

    @property
    def cases(self) -> Path:
        """Folder of the case records."""
        return self.path / "cases"

    @property
    def masks(self) -> Path:
        """Folder of the masks."""
        return self.path / "masks"

    @property
    def pictures(self) -> Path:
        """Folder of the pictures that a run draws."""
        return self.path / "qc"

    @property
    def images(self) -> Path:
        """Folder of scans on new grids, which no source file has."""
        return self.path / "images"

    @property
    def exports(self) -> Path:
        """Folder with a folder for each export format."""
        return self.path / "exports"

    @property
    def page_files(self) -> Path:
        """Folder of the files that the page loads."""
        return self.path / "report_files"

    @property
    def needed(self) -> tuple[Path, ...]:
        """Folders that every run writes to."""
        return self.path, self.masks, self.cases

    @property
    def optional(self) -> tuple[Path, ...]:
        """Folders that exist only after something was written to them."""
        return self.pictures, self.images, self.exports, self.page_files

    def record(self, case_id: str) -> Path:
        """Record of a case."""
        return self.cases / f"{case_id}.json"

    def records(self) -> list[Path]:
        """Existing records, in the order of their names."""
        return sorted(self.cases.glob("*.json"))

    def mask(self, case_id: str) -> Path:
        """Mask of a case."""
        return self.masks / f"{case_id}.nii.gz"

    def mask_entry(self, case_id: str) -> str:
        """Name of a mask in its record: relative to the folder, on every system."""
        return f"masks/{case_id}.nii.gz"

    def picture(self, case_id: str) -> Path:
        """Picture of a case."""
        return self.pictures / f"{case_id}.png"

    def image(self, case_id: str) -> Path:
        """Scan on the grid of its mask, if no source file has this grid.

        Each of several channels has its own file; `channel_paths` returns their paths.
        """
        return self.images / f"{case_id}.nii.gz"

    def export(self, format_name: str) -> Path:
        """Folder of one export format."""
        return self.exports / format_name

    @property
    def manifest(self) -> Path:
        """Manifest that a run of a folder of scans made."""
        return self.path / "manifest.csv"

    @property
    def has_masks_of_a_run(self) -> bool:
        """Whether it looks like a run folder with masks, even if its facts are damaged."""
        return bool(self.all_facts()) and self.cases.is_dir() and self.masks.is_dir()

    @property
    def report_csv(self) -> Path:
        """Table with a row for each case and label."""
        return self.path / "report.csv"

    @property
    def lesions_csv(self) -> Path:
        """The table of single lesions."""
        return self.path / "lesions.csv"

    def summary(self, ending: str = "csv") -> Path:
        """Table of means, as ``csv``, ``json``, ``md`` or ``tex``."""
        return self.path / f"summary.{ending}"

    @property
    def page(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @staticmethod
    def is_shared(name: str) -> bool:
        """Whether a name is the name of a file that all cases share."""
        return _SHARED.fullmatch(name) is not None

    def derived(self) -> Iterator[tuple[Path, bytes]]:
        """Yield the tables and the page, each with its first bytes."""
        yield self.report_csv, b"case_id,label,label_name,status,"
        yield self.lesions_csv, b"case_id,label,label_name,lesion,"
        yield self.summary(), b"label,label_name,metric,"
        yield self.summary("json"), b'{\n "format": "voxtile-summary"'
        yield self.summary("md"), b"# Summary"
        yield self.summary("tex"), b"% \\usepackage{booktabs}"
        yield self.page, b'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'

    def facts(self, shard: Shard | None = None) -> Path:
        """Facts of a run."""
        return self.path / f"run{_suffix(shard)}.json"

    def shard_facts(self) -> list[Path]:
        """Existing facts of shards, in the order of their names."""
        return sorted(self.path.glob(f"run-{_ANY_SHARD}.json"))

    def all_facts(self) -> list[Path]:
        """Existing facts of a run and of shards."""
        return [*self.path.glob("run.json"), *self.shard_facts()]

    def events(self, shard: Shard | None = None) -> Path:
        """Log of what happened."""
        return self.path / f"events{_suffix(shard)}.jsonl"

    def progress(self, shard: Shard | None = None) -> Path:
        """Progress of a run that is working."""
        return self.path / f"running{_suffix(shard)}.json"

    def all_progress(self) -> list[Path]:
        """Existing progress files."""
        return sorted(self.path.glob("running*.json"))

    def lock(self, shard: Shard | None = None) -> Path:
        """Lock of the operating system."""
        return self.path / f".lock{_suffix(shard)}"

    def holder(self, shard: Shard | None = None) -> Path:
        """Record of the process that holds the lock."""
        return self.path / f".lock{_suffix(shard)}.json"

    def holders(self) -> list[Path]:
        """Existing records of holders."""
        return sorted(self.path.glob(".lock*.json"))

    def probes(self, shard: Shard | None = None) -> Iterator[Path]:
        """Yield a file in each needed folder, to try whether it can be written."""
        return (folder / f".probe{_suffix(shard)}" for folder in self.needed)


def _suffix(shard: Shard | None) -> str:
    """Return the end of the names of a shard's files."""
    return "" if shard is None else f"-{shard}"
