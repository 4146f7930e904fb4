"""Run MONAI's SliceInferer on the same tiles: with its defaults, and tuned as far as possible."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.inferers import SliceInferer
from unet_torch import load_unet
from workload import TOLERANCE, Workload

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Net = Callable[[torch.Tensor], torch.Tensor]
Program = Literal["plain", "frozen", "compiled"]


@dataclass(frozen=True)
class _Tuning:
    """One way to run the network in PyTorch."""

    channels_last: bool
    batch: int
    program: Program

    def __str__(self) -> str:
        """Return the tuning as tables show it."""
        layout = "last" if self.channels_last else "first"
        return f"folded, channels {layout}, {self.batch} at once, {self.program}"


def as_it_comes(
    folder: Path, workload: Workload, prepared: np.ndarray
) -> tuple[Callable[[], np.ndarray], dict[str, Any]]:
    """Return MONAI with its defaults: float32, one tile at a time."""
    network = _network(folder, workload)
    return _over(network, prepared, workload, 1), {"difference": _check(folder, network, "float32")}


def tune(
    folder: Path, workload: Workload, prepared: np.ndarray, precision: str
) -> tuple[Callable[[], np.ndarray], dict[str, Any]]:
    """Return the fastest setting of MONAI on one slice, with batch normalisation folded.

    The choices are made one after another: order of channels in memory, tiles at
    once, then frozen by TorchScript, or compiled if there is a compiler.
    """
    sample = np.ascontiguousarray(prepared[..., :1])
    trials: dict[_Tuning, tuple[float, Net]] = {}
    failed: dict[str, str] = {}

    def best_of(choices: list[_Tuning]) -> _Tuning:
        """Try these choices; return the fastest of all so far."""
        for choice in choices:
            if choice in trials:
                continue
            try:
                network = _built(folder, workload, choice, precision)
                once = _over(network, sample, workload, choice.batch)
                once()  # compiles
                trials[choice] = min(_seconds(once) for _ in range(2)), network
            except Exception as error:  # a compiler may raise any error
                failed[str(choice)] = f"{type(error).__name__}: {str(error)[:200]}"
        return min(trials, key=lambda choice: trials[choice][0])

    best = best_of([_Tuning(last, 1, "plain") for last in (True, False)])
    best = best_of([replace(best, batch=batch) for batch in (2, 4, 9)])
    programs: list[Program] = ["frozen", "compiled"] if shutil.which("gcc") else ["frozen"]
    best = best_of([replace(best, program=program) for program in programs])
    network = trials[best][1]
    return _over(network, prepared, workload, best.batch), {
        "difference": _check(folder, network, precision, best.batch),
        "chosen": str(best),
        "tried": {str(choice): seconds for choice, (seconds, _) in trials.items()},
        "failed": failed,
    }


def _seconds(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _network(folder: Path, workload: Workload) -> torch.nn.Module:
    """Return the PyTorch module with its weights."""
    return load_unet(folder, workload.filters, workload.depth, workload.classes).to(DEVICE)


def _built(folder: Path, workload: Workload, tuning: _Tuning, precision: str) -> Net:
    """Return the network: folded, with the channels in order, and compiled."""
    from torch.fx.experimental.optimization import fuse

    layout = torch.channels_last if tuning.channels_last else torch.contiguous_format
    network: Any = fuse(_network(folder, workload)).to(memory_format=layout)
    example = torch.zeros(tuning.batch, 1, workload.tile, workload.tile, device=DEVICE)

    def cast(x: torch.Tensor) -> torch.Tensor:
        """Return the prediction in the chosen precision."""
        x = x.contiguous(memory_format=layout)
        if precision == "bfloat16":
            with torch.autocast(DEVICE, torch.bfloat16):
                return run(x).float()
        out: torch.Tensor = run(x)
        return out

    if tuning.program == "frozen":
        if precision == "bfloat16":
            raise ValueError("TorchScript ignores autocast")
        with torch.inference_mode():
            traced = torch.jit.trace(network, example.contiguous(memory_format=layout))
            run = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    elif tuning.program == "compiled":
        import torch._inductor.config as inductor

        inductor.freezing = True
        torch._dynamo.reset()
        run = torch.compile(network)
    else:
        run = network
    return cast


def _over(
    network: Net, prepared: np.ndarray, workload: Workload, batch: int
) -> Callable[[], np.ndarray]:
    """Return a function that segments the scan; its labels have axes (i, j, k)."""
    image = torch.from_numpy(np.ascontiguousarray(prepared)[None, None])
    inferer = SliceInferer(
        roi_size=(workload.tile, workload.tile),
        spatial_dim=2,
        sw_batch_size=batch,
        overlap=0.5,
        mode="gaussian",
        sw_device=DEVICE,
        device="cpu",
        progress=False,
    )

    def work() -> np.ndarray:
        """Predict every slice and take the largest."""
        with torch.inference_mode():
            return inferer(image, network).argmax(1)[0].numpy().astype(np.uint8)

    return work


def _check(folder: Path, network: Net, precision: str, batch: int = 1) -> float:
    """Return the largest difference from Keras; refuse a large one in float32."""
    probe = np.load(folder / "probe.npz")
    tile = torch.from_numpy(probe["tile"].transpose(0, 3, 1, 2)).to(DEVICE)
    with torch.inference_mode():
        output = network(tile.repeat(batch, 1, 1, 1)).cpu().numpy()[:1].transpose(0, 2, 3, 1)
    difference = float(np.abs(output - probe["expected"]).max())
    if precision == "float32" and difference > TOLERANCE:
        raise ValueError(f"the PyTorch network differs from Keras by {difference:.2g}")
    return difference
