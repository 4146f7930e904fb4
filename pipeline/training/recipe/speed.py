"""How fast networks are fitted on this machine, as far as a rule must know before it begins."""

from math import inf
from pathlib import Path

from voxtile.machine.processors import thread_count

# Operations a second of a core in float32, forward and backward. Two cores with AVX-512 do 130 to
# 200 * 10^9 (docs/training.md); what is promised to the rule is a little less.
_CORE = 60e9


def fitting_rate() -> float:
    """Return the operations a second to expect of a fit; infinite where there is a GPU.

    It depends on the number of processors alone, so that the same machine
    gets the same recipe whatever else it is doing.
    """
    # Asking Keras takes seconds, and without a driver the answer is known.
    if Path("/dev/nvidiactl").exists():
        from voxtile.training.fitting.learner import has_gpu

        if has_gpu():
            return inf
    return _CORE * thread_count()
