import base64
import csv
import gzip
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

import reports
from reports import downloads
from reports.downloads import Download

WriteRun = Callable[..., Path]


def content(file: Download) -> bytes:
    return base64.b64decode(file.href.partition(";base64,")[2])


def test_a_run_that_fits_is_there_byte_for_byte(write_synthetic: WriteRun) -> None:
    folder = write_synthetic()
    files, told = downloads.downloads(*reports.summary_of(folder))
    assert [file.name for file in files] == ["run.json", "summary.csv", "samples.jsonl.gz"]
    assert told == ""
    assert content(files[0]) == (folder / "run.json").read_bytes()
    assert gzip.decompress(content(files[2])) == (folder / "samples.jsonl").read_bytes()
    for file in files:
        assert hashlib.sha256(content(file)).hexdigest() == file.digest


def test_of_a_larger_run_every_value_is_there(
    write_synthetic: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_synthetic()
    results, summary = reports.summary_of(folder)
    whole, _ = downloads.downloads(results, summary)
    monkeypatch.setattr(downloads, "BUDGET_BYTES", len(whole[2].href) - 1)
    files, told = downloads.downloads(results, summary)
    assert files[2].name == "values.csv.gz"
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(content(files[2])).decode())))
    assert [row["value"] for row in rows] == [
        "" if sample.value is None else str(sample.value) for sample in results.samples
    ]
    lines = (folder / "samples.jsonl").read_bytes()
    assert hashlib.sha256(lines).hexdigest() in told
    assert f"{len(results.samples)} samples" in told


def test_of_a_huge_run_only_the_digest_is_there(
    write_synthetic: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "BUDGET_BYTES", 100)
    files, told = downloads.downloads(*reports.summary_of(write_synthetic()))
    assert [file.name for file in files] == ["run.json", "summary.csv"]
    assert "SHA-256" in told
