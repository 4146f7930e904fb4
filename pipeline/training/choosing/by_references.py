"""What the references choose if no case is held out: divisions of labels."""

from collections.abc import Sequence
from pathlib import Path

from voxtile.machine.files import write_text
from voxtile.models.bundle import load_bundle
from voxtile.training.bundle.card import model_card
from voxtile.training.bundle.selection_card import reference_words
from voxtile.training.data.stored_cases import StoredCase
from voxtile.volume import canonical

from .mask_choices import usual_divisions


def choose_by_references(folder: Path, training: Sequence[StoredCase]) -> str:
    """Let the references of all training cases choose divisions of labels; return it in words.

    The spec is written again and the card for the first time.
    """
    spec = load_bundle(folder).spec
    references = [canonical(case.reference).array for case in training]
    spec = spec.model_copy(update={"divisions": usual_divisions(references, spec.labels)})
    write_text(folder / "spec.json", spec.dump())
    write_text(folder / "README.md", model_card(spec, has_licence=(folder / "LICENSE").exists()))
    load_bundle(folder)  # verify it before the training ends
    return f"nothing was held out, so there are no scores; {reference_words(spec.divisions)}"
