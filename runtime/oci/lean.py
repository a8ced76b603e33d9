"""Stand-ins that make the start of a process that lives for milliseconds a light one.

The modules on the way of ``isoscope-oci`` declare dataclasses, annotate with names of ``typing``
and ``collections.abc``, and use a decorator each of ``functools`` and ``contextlib``. To load
these modules takes longer than to make a container. Where nothing but construction, equality and
printing of values is wanted, this is enough; a test runs the same plan with and without. Only
the entry point calls ``install``, before it imports anything else.
"""

import _collections_abc
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
    known = frozenset(names)
    after = getattr(cls, "__post_init__", None)

    def init(self, *args, **given):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN002, ANN003, ANN202
        values = self.__dict__
        values.update(defaults)
        for name, factory in factories.items():
            values[name] = factory()
        values.update(zip(names, args))  # noqa: B905 - a keyword costs more than the rest here
        values.update(given)
        if values.keys() != known:
            wrong = known ^ values.keys()
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


class _Block:
    """What ``contextmanager`` makes of a generator function with a single yield."""

    def __init__(self, steps):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        self._steps = steps

    def __enter__(self):  # type: ignore[no-untyped-def] # noqa: ANN204
        return next(self._steps)

    def __exit__(self, kind, error, trace):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        if error is None:
            next(self._steps, None)
            return False
        try:
            self._steps.throw(error)
        except StopIteration:
            return True
        except BaseException as raised:
            if raised is error:
                return False
            raise
        raise RuntimeError("a block has more than one yield")


def contextmanager(function):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """*function*, the call of which is a block."""
    return lambda *args, **given: _Block(function(*args, **given))  # type: ignore[no-untyped-call]


def cache(function):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """*function*, which answers the same arguments once."""
    known = {}

    def ask(*args):  # type: ignore[no-untyped-def] # noqa: ANN002, ANN202
        if args not in known:
            known[args] = function(*args)
        return known[args]

    return ask


def install() -> None:
    """Stand in for the modules that are not loaded already."""
    _stand_in("dataclasses", dataclass=dataclass, field=Field, KW_ONLY=_KwOnly)
    _stand_in("typing", TYPE_CHECKING=False, __getattr__=lambda _: _Name)
    _stand_in("functools", cache=cache)
    _stand_in("contextlib", contextmanager=contextmanager)
    _stand_in("collections", abc=_collections_abc, __path__=[])
    sys.modules.setdefault("collections.abc", _collections_abc)


def _stand_in(name: str, **members: object) -> None:
    if name not in sys.modules:
        sys.modules[name] = type(sys)(name)
        vars(sys.modules[name]).update(members)


def remove() -> None:
    """Take the stand-ins away, before a module of the standard library needs the real ones."""
    for name in ("dataclasses", "typing", "functools", "contextlib", "collections"):
        if getattr(sys.modules.get(name), "__spec__", None) is None:
            sys.modules.pop(name, None)
    if "collections" not in sys.modules:
        sys.modules.pop("collections.abc", None)
