import json
from collections.abc import Callable

import pytest

from runtime.errors import RuntimeFault
from runtime.image import Image, Store
from runtime.image.cli import main

Pack = Callable[..., bytes]
MakeImage = Callable[..., Image]
Member = Callable[..., object]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def image(make_image: MakeImage, pack: Pack, member: Member) -> Image:
    config = {"Cmd": ["run"], "Labels": {"evil": "\x1b[2J"}}
    return make_image(pack(member("a", b"x")), config=config)


def test_ls_of_nothing_is_a_header(capsys: Capture) -> None:
    assert main(["ls"]) == 0
    assert capsys.readouterr().out == "REFERENCE  IMAGE ID  CREATED  SIZE\n"


def test_ls_aligns_its_columns(store: Store, image: Image, capsys: Capture) -> None:
    store.tag(image.digest, "much/longer/name:tag")
    main(["ls"])
    header, *rows = capsys.readouterr().out.splitlines()
    assert [row.index(image.short_id) for row in rows] == [header.index("IMAGE ID")] * 2
    main(["ls", "--digests"])
    assert capsys.readouterr().out.count(image.digest) == 2


def test_ls_as_json(image: Image, capsys: Capture) -> None:
    main(["ls", "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert found == {
        "digest": image.digest,
        "references": ["sample:latest"],
        "created": None,
        "size_bytes": image.size_bytes,
    }


def test_names_from_strangers_do_not_steer_the_terminal(
    store: Store, image: Image, capsys: Capture
) -> None:
    index = store.root / "index.json"
    index.write_text(index.read_text().replace("sample:latest", r"evil\u001b[2J\u009b\u202e"))
    main(["ls"])
    out = capsys.readouterr().out
    assert r"evil\x1b[2J\x9b\u202e" in out
    assert out.replace("\n", "").isprintable()
    main(["inspect", image.digest])
    assert "\x1b" not in capsys.readouterr().out


def test_inspect_uses_dockers_words(image: Image, capsys: Capture) -> None:
    main(["inspect", "sample"])
    found = json.loads(capsys.readouterr().out)
    assert found["Id"] == image.manifest.config.digest
    assert found["Digest"] == image.digest
    assert found["References"] == ["sample:latest"]
    assert found["Config"]["Cmd"] == ["run"]
    assert found["Size"] == image.size_bytes
    assert found["Layers"][0]["Digest"] == image.manifest.layers[0].digest
    assert found["Layers"][0]["DiffId"] == image.config.diff_ids[0]


def test_rm_says_what_it_deleted(store: Store, image: Image, capsys: Capture) -> None:
    main(["rm", "sample"])
    removed, *deleted = capsys.readouterr().out.splitlines()
    assert removed == "removed sample"
    assert f"deleted {image.digest}" in deleted
    assert store.images() == ()


def test_errors_are_left_to_the_caller() -> None:
    for argv in (["inspect", "none"], ["rm", "none"]):
        with pytest.raises(RuntimeFault, match="no image named 'none'"):
            main(argv)


@pytest.mark.parametrize("argv", [[], ["nope"], ["rm"], ["bootstrap", "debain"], ["ls", "-x"]])
def test_wrong_usage_exits_with_2(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("isoscope image")
    assert line.endswith(" --help'")
