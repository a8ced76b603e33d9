"""How an image came about, as its configuration tells it: one step a line, most with a layer.

It is hearsay: nothing but the number of layers can be checked. Source: OCI image-spec
``config.md``, ``history``.
"""

from dataclasses import dataclass

from runtime.image.document import Node, parse_document
from runtime.image.manifest import Descriptor, Image
from runtime.image.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step; ``layer`` is None where it changed the configuration only."""

    created: str | None
    created_by: str
    comment: str
    layer: Descriptor | None
    diff_id: str | None


def history(store: Store, image: Image) -> tuple[Step, ...]:
    """The steps of *image*, oldest first. Raises ImageError.

    A layer that no step claims is a step of its own, without words; a step that claims a layer
    which is not there has none.
    """
    digest = image.manifest.config.digest
    document = parse_document(store.read_blob(image.manifest.config), digest)
    layers = list(zip(image.manifest.layers, image.config.diff_ids, strict=True))[::-1]
    steps = [
        _step(node, *(layers.pop() if layers and not _is_empty(node) else (None, None)))
        for node in document["history"].items()
    ]
    steps += [
        Step(created=None, created_by="", comment="", layer=layer, diff_id=diff_id)
        for layer, diff_id in layers[::-1]
    ]
    return tuple(steps)


def _step(node: Node, layer: Descriptor | None, diff_id: str | None) -> Step:
    return Step(
        created=node["created"].text_or("") or None,
        created_by=node["created_by"].text_or(""),
        comment=node["comment"].text_or(""),
        layer=layer,
        diff_id=diff_id,
    )


def _is_empty(node: Node) -> bool:
    told = node["empty_layer"]
    if told.present and not isinstance(told.value, bool):
        raise told.wrong("true or false")
    return told.value is True
