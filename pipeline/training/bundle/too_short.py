"""Say if a training run was too short to give a useful model, and how long it would need."""

from collections.abc import Mapping
from typing import Any

from voxtile.errors import counted
from voxtile.training.recipe.budget_rules import ENOUGH_STEPS

# Below this mean Dice, a mask is of little use.
_USELESS = 0.5


def warning_if_useless(facts: Mapping[str, Any]) -> str:
    """Return a warning about a useless model from its training facts; empty if there is none.

    Examples
    --------
    >>> networks = [{"steps": 18, "fit_seconds": 9.0}]
    >>> facts = {"validation_dice": {"mean": 0.07}, "networks": networks, "fit_seconds": 9.0}
    >>> warning_if_useless(facts)[:71]
    'a mean Dice of 0.07 is of little use. A network was fitted for 18 steps'
    """
    scores = facts.get("validation_dice")
    if scores is None or scores["mean"] >= _USELESS:
        return ""
    words = f"a mean Dice of {scores['mean']:.2g} is of little use. "
    steps = min(network["steps"] for network in facts["networks"])
    if steps >= ENOUGH_STEPS:
        return words + (
            f"The networks had {steps} steps, so more time may not help: look at the pictures of a "
            "run, and check that the references are right and that there are enough cases"
        )
    minutes = max(1, round(facts["fit_seconds"] / 60 * ENOUGH_STEPS / max(1, steps)))
    return words + (
        f"A network was fitted for {counted(steps, 'step')}, but {ENOUGH_STEPS} are usually "
        f"needed, which take about {counted(minutes, 'minute')} on this machine; train longer, "
        f"such as with --minutes {minutes}"
    )
