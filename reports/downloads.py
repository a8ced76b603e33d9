"""A run's raw data inside its page, as links that save a file without network or script.

Everything goes in where it fits (run.json, samples.jsonl.gz, byte for byte what the run's folder
has); of a larger run every value, without phases and facts; of a huge one nothing but a digest.
What was left out is said.
"""

import base64
import csv
import gzip
import hashlib
import io
from dataclasses import dataclass

from benchmarks.results import RUN_FILE, SAMPLES_FILE, Results
from benchmarks.strict_json import as_json
from benchmarks.summary import Summary
from reports.export import as_csv
from reports.style import format_bytes
from reports.words import ENGLISH, Words

BUDGET_BYTES = 1_500_000
"""What the data may add to a page, encoded."""
_COLUMNS = (
    "block", "order", "label", "workload", "metric", "attempt", "warmup", "status", "value",
    "unit",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One file and the link that holds it."""

    name: str
    href: str
    size: str
    digest: str


def downloads(
    results: Results, summary: Summary, words: Words = ENGLISH
) -> tuple[tuple[Download, ...], str]:
    """The files, and a sentence about what did not fit ('' if everything did)."""
    lines = b"".join(sample.line() for sample in results.samples)
    small = (
        _download(RUN_FILE, "application/json", as_json(results.run, indent=2) + b"\n"),
        _download("summary.csv", "text/csv", as_csv(results, summary).encode()),
    )
    whole = _download(f"{SAMPLES_FILE}.gz", "application/gzip", _packed(lines))
    if len(whole.href) <= BUDGET_BYTES:
        return (*small, whole), ""
    told = {"count": len(results.samples), "digest": hashlib.sha256(lines).hexdigest()}
    values = _download("values.csv.gz", "application/gzip", _packed(_values(results)))
    if len(values.href) <= BUDGET_BYTES:
        return (*small, values), words("page.data_thinned", **told)
    return small, words("page.data_absent", **told)


def _values(results: Results) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(sample, name) for name in _COLUMNS] for sample in results.samples)
    return text.getvalue().encode()


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=6, mtime=0)


def _download(name: str, media: str, content: bytes) -> Download:
    return Download(
        name=name,
        href=f"data:{media};base64,{base64.b64encode(content).decode()}",
        size=format_bytes(len(content)),
        digest=hashlib.sha256(content).hexdigest(),
    )
