"""The rows of the table: what is measured, the other program (peer) and the target (bar)."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import machine
import numpy as np
from contest import HERE, contestants, take_turns
from memory import Usage, measure
from ours import Way, case_command, case_record, verify_command, write_manifest
from workload import Workload, anatomy, scan, write_scan

# By default, glibc returns large blocks to the kernel at once, and each new block is zeroed page
# by page again. Keeping blocks helps PyTorch's large batches most; voxtile runs without it.
KEEP_BLOCKS = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
# Memory that a case may use in addition to its image and mask, in MB.
SPARE_MB = 1200.0
# Scans, with as many slices as those of the rows, and slices of each on which precisions are
# verified; the scales of integers come from two more scans.
_SCANS, _SLICES, _VERIFIED = 8, 64, 6


@dataclass(frozen=True)
class Row:
    """One measured row.

    Parameters
    ----------
    what, peer, bar : str
        As in the table.
    figure : float or None
        The number that the bar limits; None if it was not measured.
    reached : bool or None
        None if the bar does not apply here; then `note` says why.
    ours, theirs : str
        The measurements behind the figure.
    note : str
    """

    what: str
    peer: str
    bar: str
    figure: float | None
    reached: bool | None
    ours: str = ""
    theirs: str = ""
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Parameters
    ----------
    folder : Path
        Folder for networks, scans and results, which are large.
    rounds : int
        Turns of each contestant.
    slices : int or None
        Used instead of the number of slices of each row.
    quick : bool
        A small network and few slices, to show that everything runs; the numbers mean nothing.
    engine : str
        voxtile's engine.
    nnunet : bool
        Whether nnU-Net runs as well; it takes longest.
    """

    folder: Path
    rounds: int = 5
    slices: int | None = None
    quick: bool = False
    engine: str = "auto"
    nnunet: bool = True

    def network(self, workload: Workload) -> tuple[Path, Workload]:
        """Return the folder of a network, made if it is missing, and its workload."""
        if self.quick:
            workload = replace(workload, filters=8, fit_steps=min(20, workload.fit_steps))
        folder = self.folder / workload.name
        if not (folder / "workload.json").exists():
            subprocess.run(
                [sys.executable, str(HERE / "workload.py"), str(folder), _json(workload)],
                check=True,
                capture_output=True,
            )
            if workload.fit_steps:  # random weights would prove nothing
                self._verify(folder)
        return folder, workload

    def _verify(self, folder: Path) -> None:
        """Let voxtile measure what its `auto` may choose, on scans that no row uses."""
        cases = {}
        for seed in range(11, 11 + _SCANS + 2):
            image, truth = (self.folder / f"verify{kind}{seed}.nii.gz" for kind in ("", "-truth"))
            if not truth.exists():
                write_scan(image, scan(_SLICES, seed=seed))
                write_scan(truth, anatomy(_SLICES))
            cases[f"case{seed}"] = (image, truth)
        manifest = self.folder / "verify.csv"
        write_manifest(manifest, cases)
        done = subprocess.run(
            verify_command(folder, manifest, _SCANS, _VERIFIED),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        print(done.stdout, file=sys.stderr, flush=True)

    def count(self, slices: int) -> int:
        """Return how many slices a row has."""
        return self.slices or (max(2, slices // 30) if self.quick else slices)


def slices(settings: Settings) -> list[Row]:
    """Measure windows over slices: MONAI by default and tuned; voxtile on the same tiles, and free.

    Masks are compared, and the `auto` of voxtile is compared with float32.
    """
    folder, workload = settings.network(Workload())
    count = settings.count(64)
    short = machine.short_numbers_pay() or machine.short_numbers_pay(precision="int8")
    times, masks, facts = _slide(settings, folder, count)
    each = {name: timing.median / count for name, timing in times.items()}
    same_labels = {
        name: float((mask == masks["voxtile float32"]).mean()) for name, mask in masks.items()
    }
    details = {
        "seconds": {name: timing.seconds for name, timing in times.items()},
        "agreement with voxtile float32": same_labels,
        "facts": facts,
        "slices": count,
        "gflops_per_slice": 9 * workload.flops_per_pixel() * workload.tile**2 / 1e9,
    }
    tuned = min(("MONAI tuned float32", "MONAI tuned bfloat16"), key=each.__getitem__)
    lacking = "" if short else "short numbers are not faster here, so the bar does not apply; "
    lacking += facts["voxtile auto"]["engine"]

    def row(what: str, ours: str, theirs: str, bar: float, applies: bool, note: str = "") -> Row:
        """Compare two contestants."""
        gain = each[theirs] / each[ours]
        return Row(
            what,
            theirs,
            f">= {bar:g}x",
            gain,
            gain >= bar if applies and not settings.quick else None,
            f"{1e3 * each[ours]:.0f} ms a slice",
            f"{1e3 * each[theirs]:.0f} ms a slice",
            note,
            details if what.startswith("U-Net") else {},
        )

    seen = len(np.unique(masks["MONAI"]))
    agreement = (
        f"masks agree on {100 * same_labels['MONAI']:.3f} % of voxels, {seen} labels among them"
    )
    both = f"{lacking}; {agreement}"
    change = _dice_change(masks["voxtile float32"], masks["voxtile auto"], workload.classes)
    return [
        row("U-Net over slices, tile 256", "voxtile auto", "MONAI", 10, short, both),
        row("the same, peer tuned", "voxtile auto", tuned, 2.5, short, lacking),
        row("the same, float32, as it comes", "voxtile float32", "MONAI", 1.6, True, agreement),
        row(
            "the same, float32, peer tuned",
            "voxtile float32",
            "MONAI tuned float32",
            1.6,
            True,
            facts["MONAI tuned float32"]["chosen"],
        ),
        row("planner free to choose", "voxtile auto, free", "MONAI", 20, short, lacking),
        Row(
            "Dice of auto against float32",
            "voxtile float32",
            "< 0.001",
            change,
            change < 1e-3,
            note=f"{facts['voxtile auto']['engine']}; a network of 80 steps: voxtile models "
            "verify tells it of a trained one",
        ),
    ]


def _slide(
    settings: Settings, folder: Path, count: int
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    """Return times, masks and facts of each contestant over so many slices."""
    same = {"folder": str(folder), "slices": count}
    wanted: dict[str, Any] = {
        "MONAI": ("monai", same, {}),
        "MONAI tuned float32": ("monai", {**same, "tuned": True}, KEEP_BLOCKS),
        "MONAI tuned bfloat16": (
            "monai",
            {**same, "tuned": True, "precision": "bfloat16"},
            KEEP_BLOCKS,
        ),
        "voxtile float32": ("voxtile", {**same, "engine": settings.engine}, {}),
        "voxtile auto": ("voxtile", {**same, "engine": settings.engine, "precision": "auto"}, {}),
        "voxtile auto, free": (
            "voxtile",
            {**same, "engine": settings.engine, "precision": "auto", "tile": None},
            {},
        ),
    }
    with contestants(wanted) as started:
        times = take_turns(started, settings.rounds)
        masks = {}
        for name, contestant in started.items():
            path = settings.folder / "mask.npy"
            contestant.keep(path)
            masks[name] = np.load(path)
        facts = {name: contestant.facts for name, contestant in started.items()}
    return times, masks, facts


def arithmetic(settings: Settings) -> list[Row]:
    """Measure the rate of the 31-million-parameter network against PyTorch's matrix multiply."""
    folder, workload = settings.network(Workload(filters=64, tile=512, fit_steps=0))
    tiles = 2 if settings.quick else 4
    wanted: dict[str, Any] = {}
    for precision in ("float32", "bfloat16"):
        wanted[f"network {precision}"] = (
            "voxtile_network",
            {
                "folder": str(folder),
                "tiles": tiles,
                "engine": settings.engine,
                "precision": precision,
                "tile": 512,
            },
            {},
        )
        for size in (2048, 4096):
            options = {"precision": precision, "size": size}
            wanted[f"matmul {precision} {size}"] = ("matmul", options, KEEP_BLOCKS)
    wanted, refused = _able(wanted)
    with contestants(wanted) as started:
        times = take_turns(started, settings.rounds)
        facts = {name: contestant.facts for name, contestant in started.items()}
    rates = {}
    for name, timing in times.items():
        work = facts[name].get("flops")
        if work is None:
            work = facts[name]["tiles"] * 512**2 * workload.flops_per_pixel()
        rates[name] = work / timing.median / 1e12
    rows = []
    pays = machine.short_numbers_pay()
    for precision in ("bfloat16", "float32"):
        lacking = "" if pays or precision == "float32" else "bfloat16 is not faster here"
        peak = max(rate for name, rate in rates.items() if name.startswith(f"matmul {precision}"))
        ours = rates.get(f"network {precision}")
        rows.append(
            Row(
                f"arithmetic of the 31 M network, {precision}",
                "PyTorch's matrix multiply",
                ">= 1x" if precision == "bfloat16" else "(none)",
                None if ours is None else ours / peak,
                None
                if ours is None or lacking or precision == "float32" or settings.quick
                else ours >= peak,
                "" if ours is None else f"{ours:.3f} TFLOP/s",
                f"{peak:.3f} TFLOP/s",
                refused.get(f"network {precision}", lacking),
                {"tflops": rates},
            )
        )
    return rows


def whole(settings: Settings) -> list[Row]:
    """Measure a whole case, from reading to Dice and IoU, against the network alone."""
    folder, workload = settings.network(Workload())
    count = settings.count(300)
    way = {"engine": settings.engine, "precision": "auto", "tile": 256}
    tiles = 9 * count
    manifest = _case(settings, folder, count, 1.0, workload, label=True, copies=2)
    out = _fresh(settings.folder / "whole")
    alone = {"network": ("voxtile_network", {"folder": str(folder), "tiles": tiles, **way}, {})}
    with contestants(alone) as started:
        network = take_turns(started, 1)["network"]
        ran = started["network"].facts["tiles"]
    measure(case_command(folder, manifest, out, Way(**way)))
    # The second case of a run is warm: the network is loaded and compiled.
    record = case_record(out, "case2")
    stages = record["timings_s"]
    wanted = {
        name: stages.get(name, 0.0)
        for name in ("read", "read_label", "infer", "write", "verify", "score")
    }
    seconds = sum(wanted.values())
    ratio = seconds / (network.median * tiles / ran)
    return [
        Row(
            f"whole case over network alone, 512x512x{count}, warm",
            "",
            "<= 1.25",
            ratio,
            None if settings.quick else ratio <= 1.25,
            f"{seconds:.1f} s, of it {wanted['infer']:.1f} s in infer",
            f"{network.median * tiles / ran:.1f} s",
            f"with pictures, flags and fingerprint {record['seconds']:.1f} s",
            {"stages": stages},
        )
    ]


def memory(settings: Settings) -> list[Row]:
    """Measure peak memory and time of a case that is resampled in-plane, against nnU-Net.

    Then measure two and four times as many slices, and 105 classes.
    """
    few, workload = settings.network(Workload(spacing_mm=0.8))
    many, much = settings.network(Workload(classes=105, spacing_mm=0.8))
    counts = [settings.count(300) * factor for factor in (1, 2, 4)]
    usage: dict[str, Usage] = {}
    rows = []

    def run(name: str, folder: Path, work: Workload, count: int, tile: int | None) -> Usage:
        """Segment one case in a fresh process."""
        manifest = _case(settings, folder, count, 1.0, work)
        out = _fresh(settings.folder / "memory")
        way = Way(settings.engine, "auto", tile)
        print(f"  voxtile: {name}", file=sys.stderr, flush=True)
        usage[name] = measure(case_command(folder, manifest, out, way))
        case_record(out, "case1")
        return usage[name]

    for count in counts:
        run(f"{count} slices", few, workload, count, None)
    wide = run("105 classes", many, much, counts[0], None)
    size = [3 * 512 * 512 * count / 1e6 for count in counts]  # int16 image and uint8 mask
    judged = not settings.quick
    theirs = None
    if settings.nnunet:
        tiled = run("tile 256", few, workload, counts[0], 256)
        theirs = usage["nnU-Net"] = _measure_peer(settings.folder, few, counts[0])
    details = {name: vars(value) for name, value in usage.items()}
    for index, count in enumerate(counts[:2]):
        mine = usage[f"{count} slices"]
        rows.append(
            Row(
                f"peak memory, 512x512x{count}, 5 classes, 1.0 to 0.8 mm",
                "",
                "<= image + mask + 1.2 GB",
                (mine.peak_mb - size[index]) / 1e3,
                mine.peak_mb <= size[index] + SPARE_MB if judged else None,
                f"{mine.peak_mb / 1e3:.2f} GB, {mine.seconds:.0f} s",
                f"image and mask {size[index] / 1e3:.2f} GB",
                "the figure is GB beside image and mask",
                details if index == 0 else {},
            )
        )
    first = usage[f"{counts[0]} slices"]
    if theirs is None:
        rows.append(Row("memory and time against nnU-Net", "nnU-Net 2D", "", None, None))
    else:
        rows += _against_peer(first, tiled, theirs, counts[0], judged=judged)
    planes = 4 * 4 * 100 * 512 * 512 / 1e6
    grown = wide.peak_mb - first.peak_mb
    rows.append(
        Row(
            "105 classes against 5",
            "",
            "<= 4 float32 planes of probabilities",
            grown / 1e3,
            grown <= planes if judged else None,
            f"{wide.peak_mb / 1e3:.2f} GB and {first.peak_mb / 1e3:.2f} GB",
            f"4 planes: {planes / 1e3:.2f} GB",
            "the figure is GB more",
        )
    )
    middle, last = usage[f"{counts[1]} slices"], usage[f"{counts[2]} slices"]
    return rows + _growth(middle, last, counts[1:], size[2] - size[1], judged=judged)


def _measure_peer(folder: Path, network: Path, count: int) -> Usage:
    """Segment a scan of so many slices with nnU-Net."""
    paths = (network, folder / f"scan{count}.nii.gz", folder / "nnunet_mask")
    print("  nnU-Net", file=sys.stderr, flush=True)
    return measure([sys.executable, str(HERE / "nnunet_peer.py"), *map(str, paths)])


def _against_peer(
    first: Usage, tiled: Usage, theirs: Usage, count: int, *, judged: bool
) -> list[Row]:
    """Return memory and time of one case against nnU-Net."""
    rows = []
    for what, bar, gain, ours_text, their_text in (
        ("memory", 6, theirs.peak_mb / first.peak_mb, f"{first.peak_mb / 1e3:.2f} GB",
         f"{theirs.peak_mb / 1e3:.2f} GB"),
        ("time", 10, theirs.seconds / first.seconds, f"{first.seconds:.0f} s",
         f"{theirs.seconds:.0f} s"),
        ("time on the same tiles", 0, theirs.seconds / tiled.seconds,
         f"{tiled.seconds:.0f} s", f"{theirs.seconds:.0f} s"),
    ):  # fmt: skip
        rows.append(
            Row(
                f"{what}, 512x512x{count}",
                "nnU-Net 2D",
                f"<= 1/{bar}" if bar else "(none)",
                gain,
                gain >= bar if judged and bar else None,
                ours_text,
                their_text,
                "the figure is how many times the peer takes as much",
            )
        )
    return rows


def _growth(
    middle: Usage, last: Usage, counts: list[int], images_mb: float, *, judged: bool
) -> list[Row]:
    """Return how memory and time grow with twice as many slices."""
    grown = last.peak_mb - middle.peak_mb
    return [
        Row(
            f"{counts[1]} against {counts[0]} slices: memory",
            "",
            "<= growth of image and mask",
            grown / images_mb,
            grown <= images_mb if judged else None,
            f"{last.peak_mb / 1e3:.2f} GB and {middle.peak_mb / 1e3:.2f} GB",
            f"image and mask grow by {images_mb / 1e3:.2f} GB",
        ),
        Row(
            f"{counts[1]} against {counts[0]} slices: time",
            "",
            "<= 2.1x",
            last.seconds / middle.seconds,
            last.seconds / middle.seconds <= 2.1 if judged else None,
            f"{last.seconds:.0f} s and {middle.seconds:.0f} s",
        ),
    ]


def files(settings: Settings) -> list[Row]:
    """Measure writing and reading a .nii.gz of 100 MB, against nibabel."""
    # This noise is compressed to half its size: 400 slices of int16 give about 100 MB.
    count = settings.count(400)
    paths = {who: str(settings.folder / f"{who}.nii.gz") for who in ("ours", "nibabel")}
    rows = []
    writers: dict[str, Any] = {
        who: (f"write_{who}", {"path": paths[who], "slices": count}, {}) for who in paths
    }
    with contestants(writers) as started:
        times = take_turns(started, settings.rounds)
    # Both read the file that nibabel wrote.
    same = {"path": paths["nibabel"]}
    readers: dict[str, Any] = {who: (f"read_{who}", same, {}) for who in paths}
    if find_spec("indexed_gzip") is not None:
        readers["indexed"] = ("read_nibabel", {**same, "indexed": True}, {})
    with contestants(readers) as started:
        reading = take_turns(started, settings.rounds)
        for who, contestant in started.items():
            contestant.keep(settings.folder / f"{who}.npy")
        arrays = [np.load(settings.folder / f"{who}.npy") for who in paths]
        if not np.array_equal(*arrays):
            raise RuntimeError("voxtile and nibabel read different voxels")
    size = Path(paths["nibabel"]).stat().st_size / 1e6
    indexed = f"; with indexed_gzip {reading['indexed']}" if "indexed" in reading else ""
    for what, bar, both, note in (
        ("write", 2.0, times, "voxtile also syncs it to disk"),
        ("read", 1.4, reading, f"voxtile also checks the CRC, nibabel does not{indexed}"),
    ):
        gain = both["nibabel"].median / both["ours"].median
        rows.append(
            Row(
                f"{what} a .nii.gz of {size:.0f} MB",
                "nibabel",
                f">= {bar:g}x",
                gain,
                gain >= bar if not settings.quick else None,
                str(both["ours"]),
                str(both["nibabel"]),
                note,
            )
        )
    return rows


def train(settings: Settings) -> list[Row]:
    """Measure a training step: Keras on each backend that is installed, against PyTorch."""
    folder, _ = settings.network(Workload())
    rows = []
    precisions = ["float32"] + (["bfloat16"] if machine.short_numbers_pay("tensorflow") else [])
    for precision in precisions:
        same = {"folder": str(folder), "batch": 8, "size": 256, "precision": precision}
        wanted: dict[str, Any] = {"PyTorch": ("train_torch", same, KEEP_BLOCKS)}
        for backend in ("tensorflow", "jax", "torch"):
            wanted[f"Keras on {backend}"] = ("train_keras", same, {"KERAS_BACKEND": backend})
        wanted, refused = _able(wanted)
        with contestants(wanted) as started:
            times = take_turns(started, settings.rounds)
            chosen = started["PyTorch"].facts["chosen"]
        best = min(set(times) - {"PyTorch"}, key=lambda name: times[name].median)
        for name, timing in times.items():
            if name != "PyTorch":
                gain = times["PyTorch"].median / timing.median
                judged = name == best and not settings.quick
                rows.append(
                    Row(
                        f"training step, 8 tiles of 256x256, {precision}: {name}",
                        f"PyTorch, {chosen}",
                        ">= 1x" if name == best else "(none)",
                        gain,
                        gain >= 1 if judged else None,
                        str(timing),
                        str(times["PyTorch"]),
                    )
                )
        rows += [
            Row(f"training step, {precision}: {name}", "", "", None, None, note=why)
            for name, why in refused.items()
        ]
    return rows


ROWS: dict[str, Callable[[Settings], list[Row]]] = {
    "slices": slices,
    "arithmetic": arithmetic,
    "whole": whole,
    "memory": memory,
    "files": files,
    "train": train,
}


def _able(wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the contestants that start on this machine, and why the others do not."""
    able, refused = {}, {}
    for name, entry in wanted.items():
        try:
            with contestants({name: entry}):
                able[name] = entry
        except RuntimeError as error:
            refused[name] = "cannot run here: " + str(error).strip().splitlines()[-1][:200]
    return able, refused


def _case(
    settings: Settings,
    folder: Path,
    count: int,
    spacing_mm: float,
    workload: Workload,
    *,
    label: bool = False,
    copies: int = 1,
) -> Path:
    """Return a manifest that names one scan in so many cases; write it and the scan if missing."""
    image = settings.folder / f"scan{count}.nii.gz"
    if not image.exists():
        write_scan(image, scan(count), spacing_mm)
    truth = settings.folder / f"truth{count}-{workload.classes}.nii.gz"
    if label and not truth.exists():
        write_scan(truth, anatomy(count), spacing_mm)
    manifest = settings.folder / f"{folder.name}-{count}.csv"
    cases = {f"case{n + 1}": (image, truth if label else None) for n in range(copies)}
    write_manifest(manifest, cases)
    return manifest


def _fresh(folder: Path) -> Path:
    """Remove a run folder, and return its path."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _dice_change(truth: np.ndarray, mask: np.ndarray, classes: int) -> float:
    """Return 1 - mean Dice of the labels of one mask against another."""
    scores = []
    for value in range(1, classes):
        a, b = truth == value, mask == value
        if a.any() or b.any():
            scores.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return 1 - float(np.mean(scores)) if scores else 0.0


def _json(workload: Workload) -> str:
    """Return a workload as JSON text for the command line."""
    return json.dumps(vars(workload))
