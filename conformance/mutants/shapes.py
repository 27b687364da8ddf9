"""Shapes of mistakes that many mutants share: replacements for ``conformance.mutants.engine.mutants`` tables.

Each function makes a replacement: it is called with the original method and the call's arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

Method = Callable[..., Any]


def silent(*kinds: type[Exception], answer: Any = None) -> Method:
    """Swallow errors of these kinds and answer as if all were well."""

    def method(original: Method, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except kinds:
            return answer

    return method


def other_kind(kind: type[Exception], *instead_of: type[Exception]) -> Method:
    """Fail with the wrong kind of error (instead of any, or of those given)."""

    def method(original: Method, *args: Any, **kwargs: Any) -> Any:
        caught = instead_of or (Exception,)
        try:
            return original(*args, **kwargs)
        except caught as error:
            raise kind(str(error)) from error

    return method


def does_nothing(answer: Any = None) -> Method:
    """Never do the work."""

    def method(*_args: Any, **_kwargs: Any) -> Any:
        return answer

    return method


def twice() -> Method:
    """Do the work two times."""

    def method(original: Method, *args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        return original(*args, **kwargs)

    return method


def always_fails(kind: type[Exception], text: str = "broken") -> Method:
    """Refuse every call."""

    def method(*_args: Any, **_kwargs: Any) -> Any:
        raise kind(text)

    return method


def answers(edit: Callable[[Any], Any]) -> Method:
    """Do the work and tell something else."""
    return lambda original, *args, **kwargs: edit(original(*args, **kwargs))


def answers_with(**fields: Any) -> Method:
    """Do the work and answer with some fields of the value replaced; a callable field gets the true value."""

    def edit(value: Any) -> Any:
        return replace(value, **{k: f(getattr(value, k)) if callable(f) else f for k, f in fields.items()})

    return answers(edit)


def each(edit: Callable[[Any], Any], keep: Callable[[Any], bool] = lambda _: True) -> Method:
    """For methods that answer with many: change every one of them, and leave some out."""

    def method(original: Method, *args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        changed = (edit(value) for value in found if keep(value))
        return list(changed) if isinstance(found, list) else _iterate(changed)

    return method


def _iterate(values: Iterator[Any]) -> Iterator[Any]:
    yield from values


def drops(*names: str) -> Method:
    """Ignore arguments given by keyword."""

    def method(original: Method, *args: Any, **kwargs: Any) -> Any:
        return original(*args, **{k: v for k, v in kwargs.items() if k not in names})

    return method


def argument(index: int, edit: Callable[[Any], Any]) -> Method:
    """Do the work on something else: the positional argument at ``index`` (the context is 0) is changed first."""

    def method(original: Method, *args: Any, **kwargs: Any) -> Any:
        changed = list(args)
        if index < len(changed):
            changed[index] = edit(changed[index])
        return original(*changed, **kwargs)

    return method
