"""The published schema is that of the records, and says of real files what the reader says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from unit.reports.synthetic import make_run, write_synthetic_run

from benchmarks.results import Protocol
from benchmarks.schemas import DIRECTORY, RECORDS, document


def refusals(name: str, value: object) -> list[str]:
    schema = json.loads((DIRECTORY / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    found = jsonschema.Draft202012Validator(schema).iter_errors(value)
    return [error.message for error in found]


@pytest.mark.parametrize("name", RECORDS)
def test_the_files_are_what_the_records_say(name: str) -> None:
    told = (DIRECTORY / f"{name}.schema.json").read_text()
    assert told == document(name), "write them again: python -m benchmarks.schemas"


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    stated = Protocol(warmup=True, pilot_blocks=6, wanted_blocks=9, precision_ratio=0.05)
    return write_synthetic_run(tmp_path, protocol=stated)


def test_what_is_written_is_valid(run_file: Path) -> None:
    assert refusals("run", json.loads((run_file / "run.json").read_text())) == []
    lines = (run_file / "samples.jsonl").read_text().splitlines()
    assert [found for line in lines if (found := refusals("sample", json.loads(line)))] == []


def spoiled(run_file: Path, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run_file / "run.json").read_text())
    return {k: v for k, v in (record | changes).items() if v is not ...}


def test_a_record_without_a_protocol_is_older_and_valid(run_file: Path) -> None:
    assert refusals("run", spoiled(run_file, protocol=...)) == []
    assert make_run().protocol is None
    assert replace(make_run(), protocol=None).protocol is None


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2}, {"further": 1}, {"outcome": "finished"}, {"suite": None}, {"limits": {}},
        {"plan": ...}, {"command": "isoscope"}, {"protocol": {"warmup": True}},
    ],
)  # fmt: skip
def test_what_the_reader_refuses_is_not_valid(run_file: Path, changes: dict[str, Any]) -> None:
    assert refusals("run", spoiled(run_file, **changes))
