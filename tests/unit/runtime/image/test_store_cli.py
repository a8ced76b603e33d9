import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.image import Image, ImageError, Store, unpacked
from runtime.image.cli import main

Pack = Callable[..., bytes]
MakeImage = Callable[..., Image]
Member = Callable[..., Any]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def two(make_image: MakeImage, pack: Pack, member: Member) -> tuple[Image, Image]:
    shared = pack(member("shared", b"s" * 9000))
    return (
        make_image(shared, name="one"),
        make_image(shared, pack(member("evil\x1b[2J\n", b"2")), name="two"),
    )


def test_an_image_in_use_stays_unless_forced(
    store: Store, two: tuple[Image, Image], capsys: Capture
) -> None:
    def in_use(digest: str) -> tuple[str, ...]:
        return ("abc123",) if digest == two[0].digest else ()

    with pytest.raises(ImageError, match=f"{two[0].digest} is in use by abc123") as caught:
        main(["rm", "two", "one"], in_use=in_use)
    assert "--force" in (caught.value.remedy or "")
    assert len(store.images()) == 2
    main(["tag", "one", "other"])
    main(["rm", "one"], in_use=in_use)  # only a name
    assert store.resolve("other").references == ("other:latest",)
    main(["prune", "--all"], in_use=in_use)
    assert [image.digest for image in store.images()] == [two[0].digest]
    capsys.readouterr()
    main(["rm", "-f", "other"], in_use=in_use)
    assert capsys.readouterr().out.startswith("removed other\ndeleted sha256:")
    assert store.images() == ()


def test_prune_says_what_goes(store: Store, two: tuple[Image, Image], capsys: Capture) -> None:
    store.tag(two[1].digest, "one")
    main(["prune", "--dry-run", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["dry_run"], told["images"]) == (True, [two[0].digest])
    assert two[0].manifest.layers[0].digest not in told["blobs"]
    main(["prune"])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"deleted {two[0].digest}"
    assert out[1].endswith(f" B in {len(told['blobs'])} blobs")
    main(["prune"])
    assert capsys.readouterr().out == "freed 0 B in 0 blobs\n"


def test_df_tells_shared_from_unique(
    store: Store, two: tuple[Image, Image], capsys: Capture
) -> None:
    unpacked(store, two[0], purpose="host")
    unused = store.write_blob(b"nobody's")
    main(["df", "--json"])
    told = json.loads(capsys.readouterr().out)
    one, other = told["images"]
    (layer,) = two[0].manifest.layers
    assert one["stored"]["shared_bytes"] == other["stored"]["shared_bytes"] == layer.size_bytes
    assert one["stored"]["total_bytes"] == two[0].size_bytes
    assert other["stored"]["unique_bytes"] == two[1].size_bytes - layer.size_bytes
    files = sum(path.stat().st_size for path in (store.root / "blobs/sha256").iterdir())
    assert told["stored_bytes"] == files - unused.size_bytes
    assert told["unneeded_bytes"] == unused.size_bytes
    assert told["unpacked_bytes"] > 9000
    main(["df"])
    header, *rows, together, caches = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "IMAGE", "LAYERS", "STORED", "SHARED", "UNIQUE", "UNPACKED", "SHARED", "UNIQUE",
        "VM", "DISK",
    ]  # fmt: skip
    assert [len(row.split()) for row in rows] == [15, 12]  # "-" where there is nothing
    assert "isoscope image prune" in together
    assert caches.startswith("disks of machines: 0 B of 21.5 GB at most; build cache: 0 B")


HISTORY = [
    {"created": "2026-01-02T03:04:05Z", "created_by": "ADD \x1b[2J x"},
    {"created_by": "ENV A=1", "empty_layer": True},
    {"created_by": "RUN " + "long " * 50, "comment": "note"},
    {"created_by": "one too many"},
]


def with_history(store: Store, image: Image, steps: Any) -> Image:
    config = json.loads(store.read_blob(image.manifest.config))
    raw = json.dumps({**config, "history": steps}).encode()
    written = store.write_blob(raw, image.manifest.config.media_type)
    manifest = json.loads(store.read_blob(image.digest)) | {"config": written.to_json()}
    digest = store.write_blob(json.dumps(manifest).encode(), image.manifest.media_type).digest
    return store.tag(digest, "told")


def test_history_newest_first(store: Store, two: tuple[Image, Image], capsys: Capture) -> None:
    image = with_history(store, two[1], HISTORY)
    main(["history", "told", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [step["layer"] for step in told] == [
        None, image.manifest.layers[1].digest, None, image.manifest.layers[0].digest,
    ]  # fmt: skip
    assert [step["empty_layer"] for step in told] == [True, False, True, False]
    assert told[1]["comment"] == "note"
    main(["history", "told"])
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert max(map(len, out.splitlines())) < 110
    assert r"ADD \x1b[2J x" in out
    main(["history", "told", "--no-trunc"])
    assert image.config.diff_ids[1] in capsys.readouterr().out  # as diff names it


def test_layers_without_a_story(store: Store, two: tuple[Image, Image], capsys: Capture) -> None:
    main(["history", "two", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [step["layer"] for step in told] == [
        layer.digest for layer in two[1].manifest.layers[::-1]
    ]
    with_history(store, two[0], [{"empty_layer": "yes"}])
    with pytest.raises(ImageError, match=r"history\[0\].empty_layer is not true or false"):
        main(["history", "told"])


def test_diff_lists_layers_then_files(two: tuple[Image, Image], capsys: Capture) -> None:
    main(["diff", "one", "two"])
    assert capsys.readouterr().out.splitlines() == [
        f"= layer {two[0].config.diff_ids[0]}",
        f"+ layer {two[1].config.diff_ids[1]}",
        r"A /evil\x1b[2J\n",
    ]
    main(["diff", "two", "one", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["layers"]["only_before"] == [two[1].config.diff_ids[1]]
    assert told["files"] == [
        {
            "path": "/evil\x1b[2J\n", "change": "removed", "what": [],
            "before_bytes": 1, "after_bytes": 0,
        }
    ]  # fmt: skip


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("form", ["oci", "docker"])
def test_save_and_load_by_file(store: Store, tmp_path: Path, capsys: Capture, form: str) -> None:
    path = tmp_path / "saved.tar"
    main(["save", "one", "two", "--format", form, "-o", str(path)])
    main(["rm", "one", "two"])
    capsys.readouterr()
    main(["load", "-i", str(path)])
    assert capsys.readouterr().out == "loaded one:latest\nloaded two:latest\n"
    main(["load", "--json", "-i", str(path)])
    assert [each["references"] for each in json.loads(capsys.readouterr().out)] == [
        ["one:latest"], ["two:latest"],
    ]  # fmt: skip
    assert len(store.images()) == 2


@pytest.mark.usefixtures("two")
def test_save_to_a_pipe_and_load_from_one(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: Any
) -> None:
    main(["save", "one"])
    sys.stdout.flush()
    saved = capfdbinary.readouterr().out

    class Piped:
        buffer = io.BytesIO(saved)

        @staticmethod
        def isatty() -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Piped)
    main(["load"])
    assert capfdbinary.readouterr().out == b"loaded one:latest\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["save", "none", "-o", "{}/x"], "no image named 'none'"),
        (["save", "one", "-o", "{}/none/x"], "cannot write .*/none/x: No such file"),
        (["load", "-i", "{}/none"], "cannot read .*/none: No such file"),
        (["load", "-i", "{}"], "cannot read .*: Is a directory"),
        (["tag", "none", "x"], "no image named 'none'"),
        (["tag", "one", "X"], "no image reference"),
        (["diff", "one", "none"], "no image named 'none'"),
        (["history", "none"], "no image named 'none'"),
    ],
)
@pytest.mark.usefixtures("two")
def test_errors_are_one_sentence_and_leave_nothing(
    tmp_path: Path, words: list[str], why: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ImageError, match=why):
        main([word.replace("{}", str(folder)) for word in words])
    assert list(folder.iterdir()) == []
