"""The four hooks, and what is refused at the door. Each hook has a test named after it."""

from __future__ import annotations

import io
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from refimpl.kernel import Plugin, Registration, RegistrationError, Resource, hookimpl
from refimpl.kernel.hooks import Hooks, trace_target
from refimpl.kernel.hookspecs import HookSpecs
from tests.kernel.plugins import kernel, plugin


class Guest:
    """A plugin module with one plugin."""

    def __init__(self, *registrations: Registration) -> None:
        self._registrations = registrations

    @hookimpl
    def refimpl_registrations(self) -> list[Registration]:
        return list(self._registrations)


class Wrapper:
    """Puts a letter around every instance."""

    def __init__(self, letter: str, only: str = "") -> None:
        self._letter, self._only = letter, only

    @hookimpl
    def refimpl_wrap(self, registration: Registration, instance: object) -> object | None:
        if self._only and registration.uri != self._only:
            return None
        return f"{self._letter}({instance})"


def hooks(*modules: object, trace: io.StringIO | None = None) -> Hooks:
    made = Hooks(trace)
    for module in modules:
        made.register(module)
    return made


def test_refimpl_registrations_come_in_the_order_of_their_modules() -> None:
    registry = hooks(Guest(plugin("A.a"), plugin("B.b")), Guest(plugin("C.c"))).registry()
    assert registry.uris() == ["A.a", "B.b", "C.c"]


def test_refimpl_resources_are_offered_to_plugins() -> None:
    class Offering:
        @hookimpl
        def refimpl_resources(self) -> list[Resource]:
            return [Resource(dict, lambda _: {"made": "here"}, backend="fake")]

    booted = kernel(plugin("A.a", init=lambda ic: ic.resource(dict)), hooks=hooks(Offering())).boot()
    assert booted.get("A") == {"made": "here"}


def test_refimpl_wrap_chains_and_the_last_module_is_the_innermost() -> None:
    booted = kernel(plugin("A.a"), hooks=hooks(Wrapper("x"), Wrapper("y"))).boot()
    assert booted.get("A") == "x(y(A.a))"


def test_refimpl_wrap_may_leave_an_instance_as_it_is() -> None:
    wrapping = hooks(Wrapper("x", only="A.a"))
    booted = kernel(plugin("A.a"), plugin("B.b"), hooks=wrapping).boot()
    assert (booted.get("A"), booted.get("B")) == ("x(A.a)", "B.b")


def test_refimpl_wrap_comes_before_any_dependent_sees_the_instance() -> None:
    booted = kernel(
        plugin("B.b", "A", init=lambda ic: ic.get("A")), plugin("A.a"), hooks=hooks(Wrapper("x", only="A.a"))
    ).boot()
    assert booted.get("B") == "x(A.a)"


def test_a_failing_wrapper_is_that_plugins_failure() -> None:
    class Broken:
        @hookimpl
        def refimpl_wrap(self, registration: Registration) -> object:
            raise ValueError(f"cannot wrap {registration.uri}")

    assert str(kernel(plugin("A.a"), hooks=hooks(Broken())).boot()["A.a"].error) == "cannot wrap A.a"


def test_refimpl_initialized_sees_each_plugin_in_order_with_its_error() -> None:
    seen: list[tuple[str, str]] = []

    class Observer:
        @hookimpl
        def refimpl_initialized(self, plugin: Plugin) -> None:
            seen.append((plugin.uri, plugin.status))

    def fail(_ic: object) -> object:
        raise ValueError

    kernel(plugin("B.b", "A"), plugin("A.a", init=fail), hooks=hooks(Observer())).boot()
    assert seen == [("A.a", "error"), ("B.b", "ok")]


def test_every_hook_has_a_test_named_after_it() -> None:
    named = {name for name in vars(HookSpecs) if name.startswith("refimpl_")}
    tested = {hook for hook in named for test in globals() if test.startswith(f"test_{hook}_")}
    assert tested == named


def test_an_implementation_of_no_hook_is_refused_when_its_module_registers() -> None:
    class Mistaken:
        @hookimpl
        def refimpl_registration(self) -> list[Registration]:
            return []

    with pytest.raises(RegistrationError, match="refimpl_registration"):
        hooks(Mistaken())


def test_an_implementation_with_a_parameter_too_many_is_refused_when_its_module_registers() -> None:
    class Mistaken:
        @hookimpl
        def refimpl_wrap(self, instances: object) -> object:
            return instances

    with pytest.raises(RegistrationError, match="instances"):
        hooks(Mistaken())


def test_a_module_is_registered_once() -> None:
    guest = Guest()
    with pytest.raises(RegistrationError, match="already registered"):
        hooks(guest, guest)


@pytest.mark.parametrize("answer", [plugin("A.a"), [plugin("A.a"), "b"], "text"], ids=["bare", "mixed", "text"])
def test_an_answer_of_another_kind_names_its_module(answer: Any) -> None:
    class Mistaken:
        @hookimpl
        def refimpl_registrations(self) -> Any:
            return answer

    registering = Hooks()
    registering.register(Mistaken(), "strange_module")
    with pytest.raises(RegistrationError, match="strange_module"):
        registering.registry()


def test_a_taken_uri_names_the_module_that_came_late() -> None:
    registering = hooks(Guest(plugin("A.a")))
    registering.register(Guest(plugin("A.a")), "late_module")
    with pytest.raises(RegistrationError, match=r"A\.a: plugin: id already registered \(module late_module\)"):
        registering.registry()


def entry_points(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    entries = [EntryPoint(name="mine", value=value, group="refimpl") for value in values]
    finder = SimpleNamespace(entry_points=lambda group: entries if group == "refimpl" else [])
    monkeypatch.setattr("refimpl.kernel.hooks.importlib", SimpleNamespace(metadata=finder))


def test_modules_of_other_packages_are_found_by_their_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(monkeypatch, "tests.kernel.stranger")
    found = Hooks()
    found.register_entry_points()
    assert found.registry().uris() == ["io.strange.v1.guest"]


def test_an_entry_point_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(monkeypatch, "tests.kernel.no_such_module")
    with pytest.raises(RegistrationError, match=r"entry point mine = tests\.kernel\.no_such_module"):
        Hooks().register_entry_points()


def test_every_call_can_be_watched() -> None:
    out = io.StringIO()
    kernel(plugin("A.a"), hooks=hooks(Wrapper("x"), trace=out)).boot()
    assert "refimpl_wrap(" in out.getvalue()
    assert "answered ['x(A.a)']" in out.getvalue()
    assert "refimpl_initialized(" in out.getvalue()


@pytest.mark.parametrize("value,watched", [("1", True), ("0", False), ("", False)])
def test_the_variable_decides_whether_calls_are_printed(
    value: str, watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFIMPL_TRACE_HOOKS", value)
    assert (trace_target() is not None) == watched
