"""Which cases of a manifest train the networks, and which validate them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.models.spec import ModelSpec

from .stored_cases import StoredCase


def split_cases(
    cases: Sequence[Case], manifest: Path, *, held_out: bool = True
) -> tuple[list[Case], list[Case]]:
    """Return training and validation cases, or raise one error with every problem.

    Unless they are `held_out`, the validation cases are training cases.
    """
    training = [case for case in cases if case.split in ("train", *(() if held_out else ("val",)))]
    validation = [case for case in cases if case.split == "val"] if held_out else []
    problems = [
        f"{manifest} has no case with split {split!r}, which is needed to {purpose}; add a column "
        f"split with 'train' for most cases and 'val' for about a fifth of them{otherwise}"
        for split, missing, purpose, otherwise in (
            ("train", not training, "train the networks", ""),
            (
                "val",
                held_out and not validation,
                "choose the checkpoint and to measure the result",
                ", or train on all cases with --no-validation",
            ),
        )
        if missing
    ]
    problems += unlabelled(training + validation, manifest)
    # If training cases have the same patient, the validation scores would be too good.
    problems += shared_groups(validation, training, manifest)
    problems += shared_groups(training + validation, tested(cases), manifest)
    if problems:
        raise ManifestError(problems)
    return training, validation


def gaps(
    training: Sequence[Case], others: Sequence[Case], channels: Sequence[str], manifest: Path
) -> tuple[str, ...]:
    """Return the channels that some cases lack; ManifestError if every training case lacks one."""
    for channel in channels:
        if all(channel in case.missing for case in training):
            raise ManifestError(
                f"{manifest}: image_{channel} is empty in every training case, so nothing can be "
                "learned from this channel; remove the column, or add scans"
            )
    cases = (*training, *others)
    return tuple(channel for channel in channels if any(channel in one.missing for one in cases))


def unlabelled(cases: Sequence[Case], manifest: Path) -> list[str]:
    """Return a sentence for each case without a label."""
    return [
        f"{manifest} line {case.line}: case {case.case_id} has split {case.split!r} but no label; "
        "name its mask in column label, or leave its split empty"
        for case in cases
        if case.label is None
    ]


def tested(cases: Sequence[Case]) -> list[Case]:
    """Return the cases with split ``test``; no other case may be in their groups."""
    return [case for case in cases if case.split == "test"]


def shared_groups(cases: Sequence[Case], others: Sequence[Case], manifest: Path) -> list[str]:
    """Return a sentence for each case whose group is also in another split."""
    elsewhere = {case.group: case for case in others if case.group}
    return [
        f"{manifest} line {case.line}: group {case.group!r} is in {case.split} here but in "
        f"{elsewhere[case.group].split} on line {elsewhere[case.group].line}; put each group into "
        "one split"
        for case in cases
        if case.group in elsewhere
    ]


def check_values(
    training: Sequence[StoredCase],
    validation: Sequence[StoredCase],
    cases: Sequence[Case],
    manifest: Path,
) -> None:
    """Refuse label values that only validation cases have; `cases` are the validation rows."""
    known = {value for case in training for value in case.facts.values}
    problems = [
        f"{manifest} line {case.line}: case {case.case_id}: the label has values "
        f"{sorted(set(stored.facts.values) - known)}, but the training labels have only "
        f"{sorted(known)}; move a case with these values to train, or correct the label"
        for stored, case in zip(validation, cases, strict=True)
        if not known.issuperset(stored.facts.values)
    ]
    if problems:
        raise ManifestError(problems)


def absent_labels(
    training: Sequence[StoredCase], validation: Sequence[StoredCase], spec: ModelSpec
) -> Iterator[str]:
    """Yield a sentence for each value of the spec that no training or no validation case has."""
    if spec.ignore is not None and not any(case.facts.ignored for case in training):
        yield f"no training case has the value {spec.ignore}, which is ignored"
    for label in spec.labels:
        trained, validated = (
            any(not set(label.values).isdisjoint(case.facts.values) for case in cases)
            for cases in (training, validation)
        )
        if not trained:
            yield (
                f"no training case has label {label.value} ({label.name}), so the model cannot "
                "find it"
            )
        elif validation and not validated:
            yield (
                f"no validation case has label {label.value} ({label.name}): it does not count in "
                "the choice of checkpoints, and it has no score"
            )
