"""The card of a model, and what it must say before the model is published."""

from collections.abc import Iterator
from pathlib import Path

from voxtile.errors import ModelError, counted
from voxtile.models.bundle import Bundle, load_bundle, named_bundles

from .index import published_models

# Sentences of cards that voxtile wrote because it did not know better.
_OPEN = ("which knows nothing about its training", "No licence was given")


def read_card(name: str) -> str:
    """Return the card of a model; of one in the index that is not here, what the index says."""
    published = published_models().get(name)
    if published is not None and not Path(name).is_dir() and name not in named_bundles():
        return str(published)
    bundle = load_bundle(name)
    card = _text(bundle, "README.md").strip()
    if not card:
        raise ModelError(f"{bundle.folder} has no README.md; ask who made the model for its card")
    return printable(card)


def printable(text: str) -> str:
    """Return a text that may come from anybody without characters that control a terminal."""
    return "".join(one for one in text if one.isprintable() or one in "\n\t")


def card_problems(bundle: Bundle) -> Iterator[str]:
    """Yield what the card and the licence of a model lack."""
    texts = {name: _text(bundle, name) for name in ("README.md", "LICENSE")}
    for name, what in (("README.md", "its model card"), ("LICENSE", "the licence of its weights")):
        if not texts[name].strip():
            yield f"it has no {name}; write {what}"
    card = texts["README.md"]
    if not card.strip():
        return
    for sentence in _OPEN:
        if sentence in " ".join(card.split()):
            yield (
                f"README.md still says {sentence!r}; say there where the model and its training "
                "data come from, how it was tested, and under which licence it is"
            )
    unnamed = [label.name for label in bundle.spec.labels if label.name not in card]
    if unnamed:
        yield f"README.md does not name the label {unnamed[0]!r}; say there what each label is"


def card_notices(bundle: Bundle) -> Iterator[str]:
    """Yield what whoever publishes a model should look at."""
    named = {
        case_id
        for part in ("train", "val", "test")
        if isinstance(ids := bundle.spec.training.get(part), list)
        for case_id in ids
    }
    if named:
        yield (
            f"spec.json has the ids of {counted(len(named), 'training case')}; check that none of "
            "them names a person"
        )


def _text(bundle: Bundle, name: str) -> str:
    """Return a text file of a model; empty if it is missing."""
    path = bundle.folder / name
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
