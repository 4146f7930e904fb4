"""Events of a batch, for machines."""

import json
from pathlib import Path

from faulty import (
    events,
    run_faulty,
    valid_cases,
)

from voxtile.batch.settings import BatchSettings


def test_events_have_the_stages_and_survive_a_torn_line(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 2)
    out = tmp_path / "out"
    run_faulty(manifest, out, BatchSettings(workers=1))
    finished = events(out, "case_finished")
    assert {"read", "infer", "write"} <= set(finished[0]["timings_s"])
    with (out / "events.jsonl").open("a") as file:
        file.write('{"time": "2026')
    run_faulty(manifest, out)
    lines = (out / "events.jsonl").read_text().splitlines()
    broken = [line for line in lines if not line.endswith("}")]
    assert len(broken) == 1
    assert json.loads(lines[-1])["event"] == "run_finished"
