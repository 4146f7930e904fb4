"""Parts of a manifest."""

import pytest

from voxtile.run_folder.shard import Shard


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("2/8", {}, Shard(2, 8)),
        (
            "auto",
            {
                "SLURM_ARRAY_TASK_ID": "3",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_MAX": "3",
                "SLURM_ARRAY_TASK_COUNT": "4",
            },
            Shard(4, 4),
        ),
    ],
)
def test_a_shard_is_parsed_or_found_in_a_job_array(text, environment, expected) -> None:
    assert Shard.parse(text, environment) == expected


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "auto", "a/b"])
def test_an_impossible_shard_is_refused(text) -> None:
    with pytest.raises(ValueError, match="shard"):
        Shard.parse(text, {"SLURM_ARRAY_TASK_ID": "3"})


def test_shards_divide_the_cases() -> None:
    items = list(range(23))
    parts = [Shard(index, 5).of(items) for index in range(1, 6)]
    assert sorted(item for part in parts for item in part) == items
