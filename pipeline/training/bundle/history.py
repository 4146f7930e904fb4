"""The history of a training run as CSV."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from voxtile.models.spec import Label, Network
from voxtile.training.fitting.checkpoint import Row

if TYPE_CHECKING:  # this import loads Keras, which takes seconds
    from voxtile.training.fitting.networks import FittedNetwork


def histories(fitted: "Sequence[FittedNetwork]") -> dict[str, Sequence[Row]]:
    """Return the history of each network by its views; a second network also gets a number."""
    names = network_names([one.entry for one in fitted])
    return dict(zip(names, (one.standing.history for one in fitted), strict=True))


def network_names(networks: Sequence[Network]) -> list[str]:
    """Return the name of each network in a history."""
    members: Counter[str] = Counter()
    names = []
    for one in networks:
        views = "+".join(one.views)
        members[views] += 1
        names.append(views if members[views] == 1 else f"{views} {members[views]}")
    return names


def history_table(histories: Mapping[str, Sequence[Row]], labels: Sequence[Label]) -> str:
    """Return the rows of every network as CSV; an epoch without validation has empty cells."""
    columns = ["network", "epoch", "steps", "seconds", "learning_rate", "loss", "waiting"]
    columns += ["val_dice", *(f"val_dice_{label.value}" for label in labels)]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for name, rows in histories.items():
        writer.writerows({"network": name, **row} for row in rows)
    return text.getvalue()
