"""Which cases of a manifest are learnt from and which are validated on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.models.spec import Label

from .stored_cases import StoredCase


def split_cases(cases: Sequence[Case], manifest: Path) -> tuple[list[Case], list[Case]]:
    """Return the cases to learn from and those to validate on, or say all that is wrong."""
    training = [case for case in cases if case.split == "train"]
    validation = [case for case in cases if case.split == "val"]
    problems = [
        f"{manifest} has no case with split {split!r}; {why}: add a column split with 'train' for "
        "the cases to learn from and 'val' for about a fifth that choose the checkpoint"
        for split, chosen, why in (
            ("train", training, "there is nothing to learn from"),
            ("val", validation, "without one nobody knows when to stop or what was learnt"),
        )
        if not chosen
    ]
    problems += [
        f"{manifest} line {case.line}: case {case.case_id} has split {case.split!r} but no label; "
        "name its mask in column label, or leave its split empty"
        for case in training + validation
        if case.label is None
    ]
    # A patient on both sides would be recognised rather than segmented.
    learnt = {case.group: case.line for case in training if case.group}
    problems += [
        f"{manifest} line {case.line}: group {case.group!r} is in val here but in train on line "
        f"{learnt[case.group]}; keep a group in one split"
        for case in validation
        if case.group in learnt
    ]
    problems += tested_as_well(training + validation, cases, manifest)
    if problems:
        raise ManifestError(problems)
    return training, validation


def tested_as_well(chosen: Sequence[Case], cases: Sequence[Case], manifest: Path) -> list[str]:
    """Return a sentence for each chosen case whose group the split ``test`` has too.

    A model that has learnt from a patient, or was chosen by one, is no longer
    tested by it.
    """
    tested = {case.group: case.line for case in cases if case.group and case.split == "test"}
    return [
        f"{manifest} line {case.line}: group {case.group!r} is in {case.split} here but in test on "
        f"line {tested[case.group]}; keep a group in one split"
        for case in chosen
        if case.group in tested
    ]


def check_values(
    learnt: Sequence[StoredCase],
    judged: Sequence[StoredCase],
    validation: Sequence[Case],
    manifest: Path,
) -> None:
    """Refuse validation labels with values that no training label has: nobody could learn them."""
    known = {value for case in learnt for value in case.facts.values}
    problems = [
        f"{manifest} line {case.line}: case {case.case_id}: the label has values "
        f"{sorted(set(stored.facts.values) - known)}, but the training labels only "
        f"{sorted(known)}; move a case that has them to train, or correct the mask"
        for stored, case in zip(judged, validation, strict=True)
        if not known.issuperset(stored.facts.values)
    ]
    if problems:
        raise ManifestError(problems)


def absent_labels(
    learnt: Sequence[StoredCase], judged: Sequence[StoredCase], labels: Sequence[Label]
) -> Iterator[str]:
    """Yield a sentence for each label that no case has to learn from, or none to choose with."""
    for label in labels:
        some, others = (
            any(not set(label.values).isdisjoint(case.facts.values) for case in cases)
            for cases in (learnt, judged)
        )
        if not some:
            yield (
                f"no case to learn from has label {label.value} ({label.name}): nothing is learnt "
                "of it"
            )
        elif not others:
            yield (
                f"no validation case has label {label.value} ({label.name}): checkpoints are "
                "chosen without it, and no score tells how well it is found"
            )
