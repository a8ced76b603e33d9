"""What a step is cached under; and the documents that come of a state."""

import json
from dataclasses import replace

import pytest

from runtime.build.keys import copy_key, directory_key, run_key, selection_key
from runtime.build.model import (
    CopyStep,
    DirectoryStep,
    FromContext,
    Mount,
    Origin,
    Paths,
    RunStep,
)
from runtime.build.state import EARLIEST_S, Layer, State, moment, state_of
from runtime.errors import ImageError
from runtime.image import Descriptor
from runtime.image.manifest import LAYER_GZIP_TYPE

HERE, THERE = Origin(line=1, text="RUN x"), Origin(line=9, text="RUN  x # moved")
RUN = RunStep(origin=HERE, argv=("x",), env={"A": "b", "C": "d"}, cwd="/", user=None)
COPY = CopyStep(
    origin=HERE, sources=(Paths(tree=FromContext(), patterns=("a",)),), target="/t"
)  # fmt: skip
D1, D2 = ("sha256:" + letter * 64 for letter in "ab")


def key_of_run(step: RunStep, below: str = D1, shown: tuple[str, ...] = ()) -> str:
    return run_key(below, step, shown=shown, epoch_s=1)


def key_of_copy(step: CopyStep, below: str = D1, digest: str = "1") -> str:
    return copy_key(below, step, sources=[digest], epoch_s=1)


@pytest.mark.parametrize(
    "same",
    [
        replace(RUN, origin=THERE),
        replace(RUN, proxies={"HTTP_PROXY": "somewhere"}),
        replace(RUN, env={"C": "d", "A": "b"}),
    ],
)
def test_what_does_not_change_the_result_does_not_change_the_key(same: RunStep) -> None:
    assert key_of_run(same) == key_of_run(RUN)


def test_all_that_can_change_the_result_changes_the_key() -> None:
    mount = Mount(kind="bind", target="/m")
    others = [
        replace(RUN, argv=("x", "")),
        replace(RUN, argv=("y",)),
        replace(RUN, env={"A": "b"}),
        replace(RUN, cwd="/x"),
        replace(RUN, user="x"),
        replace(RUN, script=b""),
        replace(RUN, network="none"),
        replace(RUN, mounts=(mount,)),
        replace(RUN, mounts=(replace(mount, target="/n"),)),
    ]
    keys = [key_of_run(step) for step in (RUN, *others)]
    keys += [key_of_run(RUN, D2), key_of_run(RUN, shown=("1",))]
    keys += [run_key(D1, RUN, shown=(), epoch_s=2)]
    keys += [
        directory_key(D1, DirectoryStep(origin=HERE, path="/", user=u), epoch_s=1) for u in "ab"
    ]
    keys += [selection_key(D1, ("a",), ()), selection_key(D1, (), ("a",))]
    changed = [
        replace(COPY, target="/t/"),
        replace(COPY, owner="1"),
        replace(COPY, mode=0),
        replace(COPY, extract=True),
        replace(COPY, parents=True),
        replace(COPY, exclude=("b",)),
    ]
    keys += [key_of_copy(step) for step in (COPY, *changed)]
    keys += [key_of_copy(COPY, D2), key_of_copy(COPY, digest="2")]
    assert len({*keys}) == len(keys)


def test_a_link_depends_on_what_is_below_only_for_names() -> None:
    link = replace(COPY, link=True)
    assert key_of_copy(link, D1) == key_of_copy(link, D2)
    numbers, names = replace(link, owner="1:2"), replace(link, owner="app")
    assert key_of_copy(numbers, D1) == key_of_copy(numbers, D2)
    assert key_of_copy(names, D1) != key_of_copy(names, D2)


def test_chain_ids_are_those_of_the_specification() -> None:
    blob = Descriptor(media_type=LAYER_GZIP_TYPE, digest=D1, size_bytes=1)
    one = state().after("x", Layer(blob=blob, diff_id=D1), {})
    assert (state().chain_id, one.chain_id) == ("scratch", D1)
    assert one.after("y", Layer(blob=blob, diff_id=D2), {}).chain_id == (
        "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c"
    )


def state(**fields: object) -> State:
    base = State(epoch_s=EARLIEST_S, platform={"os": "linux", "architecture": "amd64"})
    return replace(base, **fields)  # type: ignore[arg-type]


def test_history_and_layers_go_together() -> None:
    blob = Descriptor(media_type=LAYER_GZIP_TYPE, digest=D1, size_bytes=1)
    made = state().after("ENV a=b", None, {"Env": ["a=b"]})
    made = made.after("RUN x", Layer(blob=blob, diff_id=D2), {"Env": ["a=b"]})
    document = json.loads(made.config_document())
    assert document["history"] == [
        {"created": "1980-01-01T00:00:00Z", "created_by": "ENV a=b", "empty_layer": True},
        {"created": "1980-01-01T00:00:00Z", "created_by": "RUN x"},
    ]
    assert document["rootfs"] == {"type": "layers", "diff_ids": [D2]}
    image = made.image()
    assert image.config.env == (("a", "b"),)
    again = state_of(image, made.config_document(), EARLIEST_S)
    assert again == replace(made, author=None)


def test_a_history_that_does_not_fit_the_layers_is_told_anew() -> None:
    blob = Descriptor(media_type=LAYER_GZIP_TYPE, digest=D1, size_bytes=1)
    made = state(layers=(Layer(blob=blob, diff_id=D2),))
    again = state_of(made.image(), made.config_document(), EARLIEST_S)
    assert [entry["created_by"] for entry in again.history] == [f"FROM {made.image().digest}"]


def test_a_hostile_config_is_a_clear_error() -> None:
    image = state().image()
    with pytest.raises(ImageError, match="history is not a list"):
        state_of(image, b'{"history": {}}', 1)
    with pytest.raises(ImageError, match="history is not a list of objects"):
        state_of(image, b'{"history": [1]}', 1)
    with pytest.raises(ImageError, match="is no time"):
        moment(10**14)
