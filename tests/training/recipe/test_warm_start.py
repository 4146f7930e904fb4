"""Training goes on only from networks whose scans it prepares in the same way."""

from pathlib import Path

import pytest
from phantoms import make_spec

from voxtile.errors import UsageError
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Clahe, Foreground
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.warm_start import continued


@pytest.mark.parametrize(
    "changes",
    [{"crop": "nonzero"}, {"orientation": "stored"}, {"intensity": {"method": "clahe"}}],
)
def test_an_imported_network_is_not_trained_further(changes) -> None:
    start = Bundle(Path("liver"), make_spec(**changes))
    with pytest.raises(UsageError, match="liver was imported from another program, and training"):
        continued(Recipe(), start, ("image",))


@pytest.mark.parametrize("method", [Foreground(), Clahe()])
def test_methods_that_training_does_not_apply_are_refused(method) -> None:
    with pytest.raises(UsageError, match=f"intensity {method.method} is for imported networks"):
        Recipe(intensity=method)
