"""Which layers make the error of a network in 8-bit integers, by leaving each group out."""

from collections.abc import Sequence

import numpy as np

from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .engine import Precision
from .layer_groups import layer_groups
from .quantised import as_inputs, explained, few, in_integers, mean_error, read_source


def error_shares(
    bundle: Bundle, network: Network, tiles: Sequence[np.ndarray], rest: Precision
) -> dict[str, float]:
    """Return the share of the error of integers that goes if a group of layers is in `rest`.

    The error is `mean_error` on some of the `tiles` that the scales come from. A share may be
    below 0.
    """
    some = few(as_inputs(network, tiles))
    with explained(network):
        model = read_source(bundle, network)

        def error(left: Sequence[str], rest: Precision) -> float:
            short = in_integers(model, some, left, corrected=False)
            return mean_error(short, model, some, rest)

        whole = error([], "float32") or 1.0
        groups = layer_groups(model, some[0].shape)
        return {group: 1 - error(names, rest) / whole for group, names in groups.items()}
