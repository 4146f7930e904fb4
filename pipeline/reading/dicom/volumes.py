"""Separate slices at the same places into volumes, by the attributes that distinguish them.

    place 1     b=0    b=1000  b=500        An attribute separates volumes if it differs
    place 2     b=500  b=0     b=1000       within each place, and all places have the
    place 3     b=0    b=500   b=1000       same values.

Content (the kind of value, b-value, echo ...) comes first, then times and
counts. If several slices at a place have the same value and nothing distinguishes
them, or if content contradicts the result, the series is refused.
"""

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxtile.errors import CaseError, counted, first_few

from .attributes import ATTRIBUTES, Attribute, shown
from .header import Slice

_CONTENT = [each for each in ATTRIBUTES if each.role in ("fixed", "steady")]
_ORDER = [each for each in ATTRIBUTES if each.role in ("time", "count")]
# Numbers that may sort the slices at each place, if they differ from place to place.
_ALL_ORDERS = _ORDER[:-2] + [each for each in _CONTENT if each.role == "steady"] + _ORDER[-2:]
# Times of day that are further apart may be on two days.
_HALF_A_DAY_S = 43200
# The volumes that were found are sorted by these.
_SORTED = ("echo time", "temporal position", "acquisition number", "instance number", "frame")


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One volume of a series.

    Parameters
    ----------
    slices : tuple of Slice
        One at each place, in the order of places; fewer if it is incomplete.
    labels : tuple of str
        What distinguishes it from the other volumes, such as "b=1000".
    missing : int
        Number of places without a slice of this volume.
    """

    slices: tuple[Slice, ...]
    labels: tuple[str, ...] = ()
    missing: int = 0

    def __str__(self) -> str:
        lacks = (f"incomplete: {counted(self.missing, 'slice')} missing",) if self.missing else ()
        return ", ".join((*self.labels, *lacks))

    def is_called(self, text: str) -> bool:
        """Whether all comma-separated parts of a text are among the labels."""
        own = {_term(label) for label in self.labels}
        # Whatever counts time may be called a time, phase or frame.
        own |= {
            (name, number)
            for known, number in own
            if known in _TIMES and number is not None
            for name in _TIMES
        }
        return {_term(part) for part in text.split(",")} <= own


_TIMES = ("time", "phase", "frame")


def _term(text: str) -> tuple[str, float | None]:
    """Return name and number of a label, however it is written: b=1000, b 1000."""
    parts = re.fullmatch(r"(.*?)[\s=:]*([-+]?\d+(?:\.\d*)?)?\s*(?:ms|s/mm2)?", text.strip().lower())
    name, number = parts.groups() if parts else (text, None)
    return " ".join(name.split()), None if number is None else float(number)


def separate(places: Sequence[Sequence[Slice]]) -> list[Candidate]:
    """Return the volumes, if each place has the same number of slices.

    Raises
    ------
    CaseError
        ``mixed_volumes`` if nothing separates them, or attributes contradict each other.
    """
    count = len(places[0])
    table = _Table([piece for place in places for piece in place])
    shape = (len(places), count)
    key, labels = np.zeros(shape, int), []
    for attribute in _CONTENT if count > 1 else ():
        codes = table.codes(attribute, shape)
        if codes is None or (codes == codes[:, :1]).all():
            continue
        joined = _joined(key, codes)
        if _same_at_each_place(joined):
            # A rank names volumes only if no attribute before it does.
            if "#" not in attribute.label or joined.max() > key.max():
                labels.append(attribute)
            key = joined
        elif attribute.role == "fixed" or _same_at_each_place(codes):
            raise _mixed(count, f"the values of {attribute.name} do not agree at all places")
    found = [
        replace(volume, labels=(*_labels(table, labels, volume.slices[0]), *volume.labels))
        for members in _parts(key)
        for volume in _ranked(table, places, members, _ALL_ORDERS)
    ]
    for volume in found:
        _require_one_kind(volume.slices)
    if count == 1:
        fixed = [attribute for attribute in _CONTENT if attribute.role == "fixed"]
        found = [replace(found[0], labels=tuple(_labels(table, fixed, found[0].slices[0])))]
    return _in_order(found)


def gather(places: Sequence[Sequence[Slice]]) -> list[Candidate]:
    """Return the volumes, if places have different numbers of slices.

    This uses only attributes with one value per volume, and instance numbers that
    run through the places; a rank would shift after a missing slice. The list is
    empty if these do not distinguish all slices, or if no volume is complete.
    """
    slices = [piece for place in places for piece in place]
    where = np.repeat(np.arange(len(places)), [len(place) for place in places])
    table = _Table(slices)
    key, labels = np.zeros(len(slices), int), []
    distinct = len(places)
    for attribute in (*_CONTENT, *_ORDER[:-2]):
        codes = table.codes(attribute, (len(slices),))
        if codes is None or distinct == len(slices):
            continue
        joined = _joined(key, codes)
        more = len(np.unique(_joined(where, joined)))
        covered = max(len(np.unique(where[codes == code])) for code in np.unique(codes))
        if more > distinct and covered == len(places):
            key, distinct = joined, more
            labels.append(attribute)
    if distinct < len(slices):
        blocks = _blocks(slices, where) if distinct == len(places) else None
        if blocks is None:
            return []
        key = blocks
    members = [[slices[index] for index in np.flatnonzero(key == code)] for code in np.unique(key)]
    found = [
        Candidate(tuple(own), tuple(_labels(table, labels, own[0])), len(places) - len(own))
        for own in members
    ]
    if all(volume.missing for volume in found):
        return []
    first = [min(keys) for keys in _keys(found)]
    return [found[at] for at in sorted(range(len(found)), key=first.__getitem__)]


def _blocks(slices: Sequence[Slice], where: np.ndarray) -> np.ndarray | None:
    """Return the volume of each slice if instances count through all places, volume by volume."""
    given = [piece.tells.get("instance number") for piece in slices]
    if None in given or len(set(given)) < len(given):
        return None
    count = int(where.max()) + 1
    volume, step = np.divmod(np.array(given, float) - min(given), count)  # type: ignore[type-var]
    # Each place must have exactly one step, which no other place has.
    pairs = {(int(place), float(one)) for place, one in zip(where, step, strict=True)}
    same = len(pairs) == len({one for _, one in pairs}) == count
    return np.unique(volume, return_inverse=True)[1] if same else None


def choose(volumes: Sequence[Candidate], wanted: int | str | None) -> Candidate:
    """Return the only volume, or the one with a number or a value.

    Raises
    ------
    CaseError
        ``several_volumes`` or ``no_such_volume``, with the list; or
        ``incomplete_volumes`` if the chosen volume lacks slices.
    """
    count = len(volumes)
    listed = first_few([f"{at} ({one})" if str(one) else f"{at}" for at, one in enumerate(volumes)])
    named = next((one.labels[0] for one in volumes if one.labels), "")
    value = f', or by a value, such as --volume "{named}"' if named else ""
    option = f"choose one with --volume 0 to --volume {count - 1}{value}"
    if wanted is None and count > 1:
        incomplete = any(volume.missing for volume in volumes)
        each = counted(max(len(volume.slices) for volume in volumes), "slice")
        where = ", all at one position" if each == "1 slice" else ""
        raise CaseError(
            "incomplete_volumes" if incomplete else "several_volumes",
            f"the series holds {count} volumes of {each}{where}"
            f"{f': {listed}' if named or incomplete else ''}; one is needed, so put the files of "
            "one into a folder of their own",
            option,
        )
    if isinstance(wanted, str):
        chosen = [volume for volume in volumes if volume.is_called(wanted)]
    else:
        chosen = list(volumes[wanted or 0 : (wanted or 0) + 1])
    if len(chosen) != 1:
        several = f", {len(chosen)} of which have that value," if chosen else ","
        raise CaseError(
            "no_such_volume",
            f"volume {wanted} was chosen, but the series holds {counted(count, 'volume')}{several} "
            f"numbered from 0{f': {listed}' if named else ''}; choose another",
        )
    if chosen[0].missing:
        raise CaseError(
            "incomplete_volumes",
            f"the chosen volume lacks {counted(chosen[0].missing, 'slice')}; find the files, or "
            f"choose another volume: {listed}",
        )
    return chosen[0]


class _Table:
    """The attributes of slices as small whole numbers, which are equal where values are."""

    def __init__(self, slices: Sequence[Slice]) -> None:
        self._slices = slices
        self._codes: dict[str, np.ndarray | None] = {}
        self._ranks: dict[str, dict[Hashable, int]] = {}

    def codes(self, attribute: Attribute, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the attribute's codes, -1 where it is missing; None if no slice has it."""
        if attribute.name not in self._codes:
            values = [piece.tells.get(attribute.name) for piece in self._slices]
            ranks = _ranks({value for value in values if value is not None}, attribute)
            self._ranks[attribute.name] = ranks
            codes = np.array([-1 if value is None else ranks[value] for value in values])
            self._codes[attribute.name] = codes if ranks else None
        found = self._codes[attribute.name]
        return None if found is None else found.reshape(shape)

    def label(self, attribute: Attribute, piece: Slice) -> str:
        """Return the label of a slice's value; empty if it has none."""
        value = piece.tells.get(attribute.name)
        if value is None or not attribute.label:
            return ""
        if "#" in attribute.label:
            self.codes(attribute, (-1,))
            return attribute.label.replace("#", str(self._ranks[attribute.name][value] + 1))
        return attribute.label.format(shown(value)) if shown(value) else ""


def _ranks(values: set[Hashable], attribute: Attribute) -> dict[Hashable, int]:
    """Return the rank of each value; values that are close have one rank."""
    if attribute.kind in ("word", "text"):
        return {value: rank for rank, value in enumerate(sorted(values, key=str))}
    ranks: dict[Hashable, int] = {}
    anchors: list[np.ndarray] = []
    for value in sorted(values):  # type: ignore[type-var]
        here = np.atleast_1d(np.array(value, float))
        near = anchors[-1:] if attribute.kind != "vector" else anchors
        close = (
            at
            for at, anchor in enumerate(near, start=len(anchors) - len(near))
            if anchor.shape == here.shape and np.abs(anchor - here).max() <= attribute.close
        )
        ranks[value] = next(close, len(anchors))
        if ranks[value] == len(anchors):
            anchors.append(here)
    return ranks


def _labels(table: _Table, attributes: Sequence[Attribute], piece: Slice) -> list[str]:
    """Return the labels of a slice, each once."""
    texts = [table.label(attribute, piece) for attribute in attributes]
    return list(dict.fromkeys(text for text in texts if text))


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return codes of pairs of codes."""
    pairs = one.ravel() * (int(other.max()) + 2) + other.ravel() + 1
    return np.unique(pairs, return_inverse=True)[1].reshape(one.shape)


def _same_at_each_place(codes: np.ndarray) -> bool:
    """Whether each place (row) has the same codes, in any order."""
    ordered = np.sort(codes, axis=1)
    return bool((ordered == ordered[0]).all())


def _parts(codes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield for each code its columns in every row; all rows have the same codes."""
    order = np.argsort(codes, axis=1, kind="stable")
    _, starts = np.unique(np.sort(codes[0]), return_index=True)
    yield from np.split(order, starts[1:], axis=1)


def _ranked(
    table: _Table,
    places: Sequence[Sequence[Slice]],
    members: np.ndarray,
    attributes: Sequence[Attribute],
) -> list[Candidate]:
    """Return the volumes of slices with the same content: by times, else by counts."""
    # `members`, of shape (places, volumes), has the index of each slice at its place.
    if members.shape[1] == 1:
        return [
            Candidate(tuple(place[at] for place, at in zip(places, members[:, 0], strict=True)))
        ]
    for number, attribute in enumerate(attributes):
        every = table.codes(attribute, (len(places), -1))
        codes = None if every is None else np.take_along_axis(every, members, axis=1)
        if codes is None or codes.min() < 0 or (codes == codes[:, :1]).all():
            continue
        ordered = np.sort(codes, axis=1)
        if _same_at_each_place(codes):
            parts = [np.take_along_axis(members, part, axis=1) for part in _parts(codes)]
        elif (np.diff(ordered, axis=1) > 0).all() and _may_rank(attribute, places, members):
            order = np.take_along_axis(members, np.argsort(codes, axis=1), axis=1)
            if attribute in _ORDER[-2:] and not _agree(_by_others(places, order)):
                raise _mixed(members.shape[1], f"other elements contradict the {attribute.name}s")
            parts = np.split(order, order.shape[1], axis=1)
        else:
            continue
        volumes = []
        for rank, part in enumerate(parts, start=1):
            name = attribute.label.replace("#", str(rank)) if "#" in attribute.label else ""
            for volume in _ranked(table, places, part, attributes[number + 1 :]):
                own = (name, *volume.labels) if name else volume.labels
                volumes.append(replace(volume, labels=own))
        return volumes
    separated = list(_by_others(places, members))
    if separated:
        order = np.argsort(separated[0], axis=1)
        if _agree(np.take_along_axis(codes, order, axis=1) for codes in separated):
            order = np.take_along_axis(members, order, axis=1)
            parts = np.split(order, order.shape[1], axis=1)
            return [volume for part in parts for volume in _ranked(table, places, part, ())]
    raise _mixed(members.shape[1], "no attribute of their files tells them apart")


def _by_others(places: Sequence[Sequence[Slice]], members: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the codes of each other element that differs within a place, but not between them."""
    slices = [[place[at] for at in own] for place, own in zip(places, members, strict=True)]
    for tag in slices[0][0].others:
        ranks = {piece.others.get(tag): rank for rank, piece in enumerate(slices[0])}
        if len(ranks) == len(slices[0]) and None not in ranks:
            codes = np.array(
                [[ranks.get(one.others.get(tag), -1) for one in own] for own in slices]
            )
            if _same_at_each_place(codes):
                yield codes


def _agree(every: Iterable[np.ndarray]) -> bool:
    """Whether all codes have one value in each column, and so name the same volumes."""
    return all((codes == codes[0]).all() for codes in every)


def _may_rank(attribute: Attribute, places: Sequence[Sequence[Slice]], members: np.ndarray) -> bool:
    """Whether the order of an attribute's values at each place is the order of volumes."""
    if attribute.kind in ("vector", "word", "text"):
        return False
    values = np.array(
        [
            [place[at].tells[attribute.name] for at in own]
            for place, own in zip(places, members, strict=True)
        ],
        float,
    )
    if attribute.kind == "clock":
        return bool(values.min() > 86400 or np.ptp(values) < _HALF_A_DAY_S)
    if attribute.role != "count":
        return True
    # A count is regular if volumes follow each other, or differ by the same steps everywhere.
    values.sort(axis=1)
    steps = values - values[:, :1]
    one_after_another = (values[:, :-1].max(axis=0) < values[:, 1:].min(axis=0)).all()
    return bool(one_after_another or (steps == steps[0]).all())


def _in_order(volumes: list[Candidate]) -> list[Candidate]:
    """Return the volumes in the order of their files' counts, if all places have this order."""
    keys = _keys(volumes)
    orders = {
        tuple(sorted(range(len(volumes)), key=place.__getitem__))
        for place in zip(*keys, strict=True)
    }
    return [volumes[at] for at in orders.pop()] if len(orders) == 1 else volumes


def _keys(volumes: Sequence[Candidate]) -> list[list[tuple[float, ...]]]:
    """Return what sorts each slice of each volume: magnitude first, then by what all files give."""
    slices = [piece for volume in volumes for piece in volume.slices]
    names = [name for name in _SORTED if all(name in piece.tells for piece in slices)]
    return [
        [
            (_component(piece), *(float(piece.tells[name]) for name in names))  # type: ignore[arg-type]
            for piece in volume.slices
        ]
        for volume in volumes
    ]


def _component(piece: Slice) -> float:
    """Return 0 for magnitude or an unknown kind of value, and a fixed number for others."""
    name = " ".join(piece.tells.get("kind of value", ()))  # type: ignore[arg-type]
    return 0 if name[:1] in ("", "M") else int.from_bytes(name.encode()[:4].ljust(4, b"\0"))


def _require_one_kind(slices: Sequence[Slice]) -> None:
    """Refuse a volume whose slices differ in what is the same for all slices of a volume."""
    table = _Table(slices)
    for attribute in _CONTENT:
        codes = table.codes(attribute, (len(slices),))
        if attribute.role == "fixed" and codes is not None and np.ptp(codes):
            raise CaseError(
                "mixed_volumes",
                f"the {len(slices)} slices of a volume differ in {attribute.name}, so that they "
                "are of several volumes; put the files of one into a folder of their own",
            )


def _mixed(count: int, why: str) -> CaseError:
    """Return the error of volumes that cannot be separated."""
    return CaseError(
        "mixed_volumes",
        f"the series holds {counted(count, 'slice')} at each place that cannot be separated into "
        f"volumes: {why}; put the files of one volume into a folder of their own",
    )
