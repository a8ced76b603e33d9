"""Descriptor, manifest, configuration and image: the documents of the OCI image-spec, typed.

Sources: image-spec ``descriptor.md``, ``manifest.md``, ``config.md``. Docker's schema 2 manifests
have the same fields and are read too.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.errors import ImageError
from runtime.image.document import Node, parse_document
from runtime.image.reference import is_digest

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_GZIP_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MAX_LAYERS = 500
"""More are refused: overlayfs stacks no more (OVL_MAX_STACK in the kernel's fs/overlayfs)."""
MAX_REPEATS = 128
"""How often one layer may stand in an image: real ones repeat the empty layer, a few dozen times;
each time costs a name in the stack and, where it is unpacked, the whole layer once more."""
MANIFEST_TYPES = frozenset({MANIFEST_TYPE, DOCKER_MANIFEST_TYPE})

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_PORT = re.compile(r"[0-9]{1,5}")
_ENV_NAME = re.compile(r"[^=]+=", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a blob is and how to know it: media type, digest, size."""

    media_type: str
    digest: str
    size_bytes: int

    @classmethod
    def from_node(cls, node: Node) -> "Descriptor":
        """The descriptor at *node*. Raises ImageError."""
        return cls(
            media_type=node["mediaType"].text(),
            digest=_digest(node["digest"]),
            size_bytes=node["size"].size(),
        )

    def to_json(self) -> dict[str, Any]:
        """The object that stands in a manifest or index."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Which configuration and which layers, lowest first, make the image."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = MANIFEST_TYPE
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, raw: bytes, digest: str) -> "Manifest":
        """The manifest in the blob *digest*. Raises ImageError naming blob and field."""
        document = parse_document(raw, digest)
        if document["schemaVersion"].value != 2:
            raise document["schemaVersion"].wrong("2")
        # The field may be absent; where it is not, an index must not pass for a manifest.
        media_type = document["mediaType"].text_or(MANIFEST_TYPE)
        if media_type not in MANIFEST_TYPES:
            raise document["mediaType"].wrong("the media type of an image manifest")
        if not document["config"].present:
            raise document["config"].wrong("a descriptor")
        layers = tuple(Descriptor.from_node(layer) for layer in document["layers"].items())
        check_layers([layer.digest for layer in layers], digest)
        return cls(
            config=Descriptor.from_node(document["config"]),
            layers=layers,
            media_type=media_type,
            annotations=document["annotations"].mapping(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How the image wants to be run, and which uncompressed layers it consists of.

    ``user`` and ``stop_signal`` are None where the image says nothing; ``cwd`` is then ``/``.
    """

    architecture: str
    os: str
    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    cwd: str = "/"
    user: str | None = None
    stop_signal: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    diff_ids: tuple[str, ...] = ()
    created: str | None = None
    exposed: tuple[tuple[int, Literal["tcp", "udp"]], ...] = ()
    """Ports with their protocol (``tcp`` or ``udp``); others are left out."""

    @classmethod
    def from_json(cls, raw: bytes, digest: str) -> "ImageConfig":
        """The configuration in the blob *digest*. Raises ImageError naming blob and field."""
        document = parse_document(raw, digest)
        config = document["config"]
        return cls(
            architecture=document["architecture"].text(),
            os=document["os"].text(),
            env=tuple(_variable(entry) for entry in config["Env"].items()),
            entrypoint=config["Entrypoint"].texts(),
            cmd=config["Cmd"].texts(),
            cwd=_absolute(config["WorkingDir"]),
            user=config["User"].text_or("") or None,
            stop_signal=config["StopSignal"].text_or("") or None,
            labels=config["Labels"].mapping(),
            diff_ids=tuple(_digest(entry) for entry in document["rootfs"]["diff_ids"].items()),
            created=_moment(document["created"]),
            exposed=tuple(_exposed(config["ExposedPorts"])),
        )

    def command(self, cmd: Sequence[str] = ()) -> tuple[str, ...]:
        """What runs when the user asks for *cmd*: the entrypoint, then *cmd* or the image's own.

        May be empty: the image then names no program and the user gave none.
        """
        return self.entrypoint + (tuple(cmd) or self.cmd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of a store.

    ``digest`` is the manifest's. ``size_bytes`` is what its blobs take in the store: manifest,
    configuration and compressed layers, those shared with other images included.
    """

    digest: str
    references: tuple[str, ...]
    manifest: Manifest
    config: ImageConfig
    created: str | None
    size_bytes: int

    @property
    def short_id(self) -> str:
        """Twelve hex digits of the digest, enough for ``Store.resolve``."""
        return self.digest.removeprefix("sha256:")[:12]

    def _repr_html_(self) -> str:
        """The image as a notebook shows it: what names it, what it is made of, what it runs."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook; a start must be light

        layers = self.manifest.layers
        return markup.facts(
            {
                "references": ", ".join(self.references) or "none",
                "digest": self.digest,
                "platform": f"{self.config.os}/{self.config.architecture}",
                "layers": "; ".join(f"{each.digest} ({each.size_bytes} bytes)" for each in layers),
                "runs": " ".join(self.config.command()) or "nothing of its own",
                "size": f"{self.size_bytes} bytes, compressed",
            }
        )


def check_layers(names: Sequence[str], image: str) -> None:
    """Raise ImageError if *image* has more layers than any may, or one of *names* too often."""
    if len(names) > MAX_LAYERS:
        raise ImageError(
            f"{image} has {len(names)} layers; more than {MAX_LAYERS} cannot be stacked"
        )
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > MAX_REPEATS:
        raise ImageError(
            f"{image} has the layer {name} {count} times; more than {MAX_REPEATS} are refused"
        )


def image_of(
    descriptor: Descriptor, manifest: Manifest, config: ImageConfig, references: tuple[str, ...]
) -> Image:
    """The image that these documents describe. Raises ImageError if they contradict each other."""
    if len(config.diff_ids) != len(manifest.layers):
        raise ImageError(
            f"{descriptor.digest}: {len(manifest.layers)} layers, but its configuration"
            f" {manifest.config.digest} has {len(config.diff_ids)} diff_ids"
        )
    blobs = (descriptor, manifest.config, *manifest.layers)
    return Image(
        digest=descriptor.digest,
        references=references,
        manifest=manifest,
        config=config,
        created=config.created,
        size_bytes=sum(blob.size_bytes for blob in blobs),
    )


def _digest(node: Node) -> str:
    text = node.text()
    if not is_digest(text):
        raise node.wrong("a digest (sha256: and 64 lower-case hex digits)")
    return text


def _variable(node: Node) -> tuple[str, str]:
    text = node.text()
    if not _ENV_NAME.match(text):
        raise node.wrong("NAME=VALUE")
    name, _, value = text.partition("=")
    return name, value


def _absolute(node: Node) -> str:
    path = node.text_or("") or "/"
    if not path.startswith("/"):
        raise node.wrong("an absolute path")
    return path


def _exposed(node: Node) -> Iterator[tuple[int, Literal["tcp", "udp"]]]:
    """The keys of an object whose values mean nothing (image-spec, config.md)."""
    if not node.present:
        return
    if not isinstance(node.value, dict):
        raise node.wrong("an object")
    for key in node.value:
        number, _, protocol = key.partition("/")
        if not _PORT.fullmatch(number) or not 0 < int(number) < 1 << 16:
            raise node[key].wrong("a port such as 80/tcp")
        if protocol in {"", "tcp"}:
            yield int(number), "tcp"
        elif protocol == "udp":
            yield int(number), "udp"


def _moment(node: Node) -> str | None:
    if not node.present:
        return None
    text = node.text()
    if not _RFC3339.fullmatch(text):
        raise node.wrong("a date and time (RFC 3339)")
    return text
