"""A stage's image while it grows: its layers, its history, its config (pure).

From it come the documents of the image and the names of what is cached. Sources: image-spec
``config.md`` (history, rootfs, ChainID) and ``manifest.md``.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from runtime.errors import ImageError
from runtime.image import Descriptor, Image, ImageConfig, Manifest
from runtime.image.document import parse_document, render_document
from runtime.image.manifest import CONFIG_TYPE, MANIFEST_TYPE, image_of
from runtime.image.slots import chain_ids

NOTHING = "scratch"
"""The chain id, so to say, of no layer at all."""

EARLIEST_S = 315_532_800
"""1980-01-01T00:00:00Z: what files get as their time unless ``SOURCE_DATE_EPOCH`` says otherwise.

Any constant would make builds repeatable; this is the earliest that zip archives can hold."""

_PLATFORM = ("architecture", "os", "variant", "os.version", "os.features")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer in the store, and what its tar hashes to."""

    blob: Descriptor
    diff_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a stage is after some of its steps; *epoch_s* is when all of it was made."""

    epoch_s: int
    platform: Mapping[str, Any]
    layers: tuple[Layer, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    author: str | None = None

    @property
    def chain_id(self) -> str:
        """What names these layers in this order (image-spec, ChainID)."""
        return (NOTHING, *chain_ids([layer.diff_id for layer in self.layers]))[-1]

    def after(self, text: str, layer: Layer | None, config: Mapping[str, Any]) -> "State":
        """This, after the step that *text* tells of, which made *layer* or no change."""
        entry: dict[str, Any] = {"created": moment(self.epoch_s), "created_by": text}
        if layer is None:
            entry["empty_layer"] = True
        return replace(
            self,
            layers=self.layers if layer is None else (*self.layers, layer),
            history=(*self.history, entry),
            config=config,
        )

    def config_document(self) -> bytes:
        """The blob that the manifest calls the config."""
        document: dict[str, Any] = {
            **self.platform,
            "created": moment(self.epoch_s),
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            "history": list(self.history),
        }
        if self.author is not None:
            document["author"] = self.author
        return render_document(document)

    def manifest_document(self, config: Descriptor) -> bytes:
        """The manifest."""
        return render_document(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": config.to_json(),
                "layers": [layer.blob.to_json() for layer in self.layers],
            }
        )

    def image(self) -> Image:
        """This as an image, of which neither config nor manifest need be in a store."""
        raw = self.config_document()
        config = _descriptor(CONFIG_TYPE, raw)
        manifest_raw = self.manifest_document(config)
        descriptor = _descriptor(MANIFEST_TYPE, manifest_raw)
        manifest = Manifest.from_json(manifest_raw, descriptor.digest)
        return image_of(descriptor, manifest, ImageConfig.from_json(raw, config.digest), ())


def state_of(image: Image, raw_config: bytes, epoch_s: int) -> State:
    """The state that a stage FROM *image* begins with. Raises ImageError.

    A history that does not fit the layers, as some tools leave it, is told anew.
    """
    document = parse_document(raw_config, image.manifest.config.digest)
    layers = tuple(
        Layer(blob=blob, diff_id=diff_id)
        for blob, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True)
    )
    history = tuple(node.value for node in document["history"].items())
    if not all(isinstance(entry, dict) for entry in history):
        raise document["history"].wrong("a list of objects")
    if sum(not entry.get("empty_layer") for entry in history) != len(layers):
        history = tuple({"created_by": f"FROM {image.digest}"} for _ in layers)
    return State(
        epoch_s=epoch_s,
        platform={key: document[key].value for key in _PLATFORM if document[key].present},
        layers=layers,
        history=history,
        config=document["config"].value or {},
        author=document["author"].text_or("") or None,
    )


def moment(epoch_s: int) -> str:
    """Seconds since 1970 as RFC 3339."""
    try:
        return datetime.fromtimestamp(epoch_s, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        raise ImageError(f"SOURCE_DATE_EPOCH {epoch_s} is no time") from None


def _descriptor(media_type: str, raw: bytes) -> Descriptor:
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return Descriptor(media_type=media_type, digest=digest, size_bytes=len(raw))
