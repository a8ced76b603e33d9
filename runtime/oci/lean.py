"""Stand-ins that make the start of a process that lives for milliseconds a light one.

The modules on the way of ``isoscope-oci`` declare dataclasses and annotate with names of
``typing``. To load these two modules takes longer than to make a container. Where nothing but
construction, equality and printing of values is wanted, this is enough; a test runs the same
plan with and without. Only the entry point calls ``install``, before it imports anything else.
"""

import sys


class _Missing:
    """No default."""


class Field:
    """What ``field()`` says of one attribute."""

    def __init__(self, default=_Missing, default_factory=_Missing, **_):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN003, ANN204
        self.default = default
        self.factory = default_factory


def dataclass(cls=None, /, **_):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN003, ANN201, C901
    """Give *cls* an initialiser, equality and a text, by its annotations."""
    if cls is None:
        return dataclass
    names = []
    defaults = {}
    for base in reversed(cls.__mro__):
        for name, annotation in base.__dict__.get("__annotations__", {}).items():
            if annotation is _KwOnly:
                continue
            if name not in names:
                names.append(name)
            if name in base.__dict__:
                defaults[name] = base.__dict__[name]
    factories = {n: d.factory for n, d in defaults.items() if isinstance(d, Field)}
    defaults = {n: d for n, d in defaults.items() if not isinstance(d, Field)}
    after = getattr(cls, "__post_init__", None)

    def init(self, *args, **given):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN002, ANN003, ANN202
        values = self.__dict__
        values.update(defaults)
        for name, factory in factories.items():
            values[name] = factory()
        values.update(zip(names, args, strict=False))
        values.update(given)
        if len(values) != len(names) or not values.keys() <= set(names):
            wrong = set(names) ^ values.keys()
            raise TypeError(f"{cls.__name__}: wrong or missing: {', '.join(sorted(wrong))}")
        if after is not None:
            after(self)

    cls.__init__ = init
    cls.__eq__ = lambda self, other: type(self) is type(other) and vars(self) == vars(other)
    cls.__hash__ = lambda self: hash(tuple(vars(self).values()))
    cls.__repr__ = lambda self: f"{cls.__name__}({vars(self)})"
    cls.__match_args__ = tuple(names)  # type: ignore[misc]
    return cls


class _KwOnly:
    """The marker between positional and named attributes."""


class _Name:
    """Any name of ``typing``: it can be subscripted, inherited from and joined by ``|``."""

    def __class_getitem__(cls, _):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        return cls


def install() -> None:
    """Stand in for ``dataclasses`` and ``typing``, unless they are loaded already."""
    if "dataclasses" not in sys.modules:
        module = sys.modules["dataclasses"] = type(sys)("dataclasses")
        module.dataclass = dataclass  # type: ignore[attr-defined]
        module.field = Field  # type: ignore[attr-defined]
        module.KW_ONLY = _KwOnly  # type: ignore[attr-defined]
    if "typing" not in sys.modules:
        module = sys.modules["typing"] = type(sys)("typing")
        module.TYPE_CHECKING = False  # type: ignore[attr-defined]
        module.__getattr__ = lambda _: _Name  # type: ignore[method-assign]


def remove() -> None:
    """Take the stand-ins away, before a module of the standard library needs the real ones."""
    for name in ("dataclasses", "typing"):
        if not hasattr(sys.modules.get(name), "__file__"):
            sys.modules.pop(name, None)
