"""Laws of division: groups stay whole, order does not matter, shares are kept."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.errors import ManifestError
from voxtile.manifest.dealing import equal_shares
from voxtile.manifest.rows import read_manifest
from voxtile.manifest.split import Division, shares_of, split_manifest, write_split
from voxtile.manifest.table import Table, read_table

runner = CliRunner()

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def write(path: Path, rows) -> Path:
    header = ("case_id", "image", "group", "site", "split")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Table(header, tuple(rows)).csv())
    return path


def make_rows(sizes, sites=("A", "B", "C")) -> list[tuple[str, ...]]:
    """Rows of groups of these sizes; 0 stands for a row without a group."""
    rows = []
    for group, size in enumerate(sizes):
        site = sites[group % len(sites)]
        name = f"g{group}" if size else ""
        rows += [(f"c{group}-{n}", f"{group}.nii", name, site, "") for n in range(size or 1)]
    return rows


def parts_of(table: Table, column: str = "split") -> dict[str, str]:
    return dict(zip(table.column("case_id"), table.column(column), strict=True))


def divide(path: Path, rows, shares=SHARES, **settings) -> Table:
    return split_manifest(write(path, rows), Division(shares, **settings))


@st.composite
def sized(draw: st.DrawFn) -> list[int]:
    return draw(st.lists(st.integers(0, 4), min_size=12, max_size=60))


@given(sized(), st.integers(0, 5), st.booleans())
def test_groups_are_never_divided_and_shares_are_kept(tmp_path_factory, sizes, seed, strata):
    path = tmp_path_factory.getbasetemp() / "laws.csv"
    rows = make_rows(sizes)
    shares = {"train": 0.6, "val": 0.2, "test": 0.2}
    table = divide(path, rows, shares, seed=seed, stratify="site" if strata else None)
    found: dict[str, set[str]] = {}
    for group, part in zip(table.column("group"), table.column("split"), strict=True):
        if group:
            found.setdefault(group, set()).add(part)
    assert all(len(parts) == 1 for parts in found.values())
    counts = Counter(table.column("split"))
    for name, share in shares.items():
        assert abs(counts[name] - share * len(rows)) <= max(*sizes, 1)


@given(sized(), st.randoms(use_true_random=False), st.integers(2, 5))
def test_the_order_of_rows_does_not_matter(tmp_path_factory, sizes, random, count) -> None:
    path = tmp_path_factory.getbasetemp() / "order.csv"
    rows = make_rows(sizes)
    shuffled = random.sample(rows, len(rows))
    for settings in ({}, {"stratify": "site"}):
        one = divide(path, rows, equal_shares(count), column="fold", **settings)
        other = divide(path, shuffled, equal_shares(count), column="fold", **settings)
        assert parts_of(one, "fold") == parts_of(other, "fold")


def test_rows_stay_together_by_group_and_by_another_column(tmp_path: Path) -> None:
    # Of each 10 cases: 5 share a group, 2 of these and 2 others a site, and 3 have neither.
    rows = [
        (
            f"c{block}-{n}",
            "a.nii",
            f"g{block}" if n < 5 else "",
            f"g{(block + 1) % 9}" if 3 <= n < 7 else "",
            "",
        )
        for block in range(9)
        for n in range(10)
    ]
    for seed in range(9):
        table = divide(tmp_path / "m.csv", rows, by="site", seed=seed)
        parts = parts_of(table)
        assert parts == parts_of(divide(tmp_path / "m.csv", rows[::-1], by="site", seed=seed))
        for block in range(9):
            assert len({parts[f"c{block}-{n}"] for n in range(7)}) == 1
    lines = write_split(tmp_path / "m.csv", tmp_path / "n.csv", Division(SHARES, by="site"))
    assert sum(int(line.split(", ")[1].split()[0]) for line in lines if "groups" in line) == 9


def test_each_stratum_is_divided_like_the_whole(tmp_path: Path) -> None:
    rows = [
        (f"c{n}", "a.nii", f"g{n}", site, "")
        for n, site in enumerate(["common"] * 170 + ["rare"] * 30)
    ]
    table = divide(tmp_path / "m.csv", rows, stratify="site")
    counts = Counter(zip(table.column("site"), table.column("split"), strict=True))
    assert abs(counts["rare", "train"] - 21) <= 1
    assert abs(counts["rare", "val"] - 3) <= 1
    assert abs(counts["rare", "test"] - 6) <= 1
    assert counts["common", "train"] + counts["rare", "train"] == 140


def test_a_seed_always_gives_the_same_division(tmp_path: Path) -> None:
    rows = make_rows([1] * 12)
    first = divide(tmp_path / "m.csv", rows, equal_shares(3), column="fold").column("fold")
    # Written down: the same on every machine, in every version.
    assert "".join(first) == "102100221102"
    assert (
        divide(tmp_path / "m.csv", rows, equal_shares(3), column="fold", seed=1).column("fold")
        != first
    )


def test_other_columns_are_untouched_and_quoted_cells_survive(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('note,case_id,image,x\n"a, ""b""",p1,a.nii,=1\n"two\nlines",p2,b.nii,\n')
    table = split_manifest(path, Division({"train": 0.5, "val": 0.5}))
    assert table.header == ("note", "case_id", "image", "x", "split")
    assert table.column("note") == ('a, "b"', "two\nlines")
    (tmp_path / "n.csv").write_text(table.csv())
    assert read_table(tmp_path / "n.csv") == table


def test_rows_of_kept_splits_stay_and_are_not_counted(tmp_path: Path) -> None:
    rows = [(f"c{n}", "a.nii", f"g{n}", "A", "test" if n < 5 else "train") for n in range(15)]
    halves = {"train": 0.5, "val": 0.5}
    table = divide(tmp_path / "m.csv", rows, halves, keep=("test",))
    assert Counter(table.column("split")) == {"test": 5, "train": 5, "val": 5}
    assert table.column("split")[:5] == ("test",) * 5
    rows[5] = ("c5", "a.nii", "g0", "A", "train")
    with pytest.raises(ManifestError, match="group 'g0' has rows that keep their split"):
        divide(tmp_path / "m.csv", rows, halves, keep=("test",))


def test_folds_with_a_validation_fold_are_ready_for_training(tmp_path: Path) -> None:
    source = write(tmp_path / "m.csv", make_rows([1, 2, 1, 3, 1, 2]))
    for fold in range(3):
        out = tmp_path / f"fold{fold}.csv"
        lines = write_split(source, out, Division(*shares_of(3, None)), fold)
        assert f"split: fold {fold} is val, the others are train" in lines
        for name in ("0.nii", "1.nii", "2.nii", "3.nii", "4.nii", "5.nii"):
            (tmp_path / name).touch()
        cases = read_manifest(out)
        assert {case.split for case in cases} == {"train", "val"}
        assert all(
            (case.split == "val") == (dict(case.extras)["fold"] == str(fold)) for case in cases
        )


def test_a_note_says_how_many_test_cases_are_in_folds(tmp_path: Path) -> None:
    rows = [(f"c{n}", "a.nii", "", "", "test" if n < 3 else "train") for n in range(9)]
    source = write(tmp_path / "m.csv", rows)
    said = "note: the folds include 3 cases of split test"
    folds = shares_of(3, None)
    lines = write_split(source, tmp_path / "all.csv", Division(*folds), 0)
    assert said in "\n".join(lines)
    lines = write_split(source, tmp_path / "kept.csv", Division(*folds, keep=("test",)))
    assert said not in "\n".join(lines)
    assert read_table(tmp_path / "kept.csv").column("fold")[:3] == ("", "", "")
    lines = write_split(source, tmp_path / "split.csv", Division(SHARES))
    assert said not in "\n".join(lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either --folds K or --fractions"),
        ({"folds": 2, "fractions": SHARES}, "either --folds K or --fractions"),
        ({"folds": 1}, "at least 2"),
        ({"fractions": {"train": 0.5}}, "add up to 0.5"),
        ({"fractions": {"train": 1.5, "val": -0.5}}, "must be positive"),
        ({"fractions": {"train": 0.5, "dev": 0.5}}, "'dev' is not one of"),
        ({"fractions": {"train": float("nan")}}, "must be positive"),
        ({"fractions": SHARES, "validate": 0}, "--validate needs --folds"),
        ({"folds": 2, "validate": 2}, "fold 2 is not one of 0, 1"),
        ({"folds": 2, "keep": ("dev",)}, "'dev' is not one of"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options, message) -> None:
    source = write(tmp_path / "m.csv", make_rows([1] * 10))
    with pytest.raises(ValueError, match=message):
        division = Division(
            *shares_of(options.get("folds"), options.get("fractions")), keep=options.get("keep", ())
        )
        write_split(source, tmp_path / "n.csv", division, options.get("validate"))
    assert not (tmp_path / "n.csv").exists()


def test_a_manifest_that_cannot_be_divided_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="has 2 groups to divide, so that"):
        divide(tmp_path / "m.csv", make_rows([3, 3]))
    with pytest.raises(ManifestError, match="has no column 'age'"):
        divide(tmp_path / "m.csv", make_rows([1] * 10), stratify="age")
    with pytest.raises(ManifestError, match="has no column 'patient'"):
        divide(tmp_path / "m.csv", make_rows([1] * 10), by="patient")
    with pytest.raises(ManifestError, match="is already on line 2"):
        divide(tmp_path / "m.csv", [make_rows([1])[0]] * 2)
    path = write(tmp_path / "m.csv", make_rows([1] * 10))
    path.write_text(path.read_text().replace("site", "dice"))
    with pytest.raises(ManifestError, match=r"'dice', has the name of a column of report\.csv"):
        split_manifest(path, Division(SHARES))


def test_the_command_writes_a_new_manifest(tmp_path: Path) -> None:
    source = write(tmp_path / "m.csv", make_rows([2] * 10))
    words = ["manifest", "split", str(source), "--fractions", "train=0.7,val=0.1,test=0.2"]
    done = runner.invoke(app, [*words, "--out", str(tmp_path / "out/n.csv")])
    assert done.exit_code == 0, done.output
    assert "split train: 14 cases, 7 groups" in done.output
    assert "pass that folder as --root" in done.output
    again = runner.invoke(app, [*words, "--out", str(tmp_path / "out/n.csv")])
    assert (again.exit_code, "exists" in again.output) == (4, True)
    for wrong in ("train", "train=a", "train=0.5,train=0.5"):
        done = runner.invoke(app, [*words[:3], "--fractions", wrong, "--out", str(tmp_path / "x")])
        assert (done.exit_code, "--fractions" in done.output) == (2, True)


def test_ten_cases_are_divided_exactly(tmp_path: Path) -> None:
    rows = [(f"c{n}", "a.nii", "", "", "") for n in range(10)]
    table = divide(tmp_path / "m.csv", rows)
    assert Counter(table.column("split")) == {"train": 7, "val": 1, "test": 2}
