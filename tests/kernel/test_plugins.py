"""Looking plugins up (PLG-015 to PLG-021)."""

from __future__ import annotations

import pytest

from refimpl.contract.errors import AlreadyExists, InvalidArgument, NotFound, Unknown
from refimpl.kernel import Plugin, PluginSet, SkipPlugin
from tests.kernel.plugins import plugin


def ok(uri: str) -> Plugin:
    return Plugin(plugin(uri), made=f"instance of {uri}")


def test_the_one_plugin_of_a_type_is_found() -> None:
    assert PluginSet([ok("T.one"), ok("U.two")]).get("T") == "instance of T.one"


def test_a_type_of_which_there_is_nothing_is_named() -> None:
    with pytest.raises(NotFound) as caught:
        PluginSet().get("T")
    assert str(caught.value) == "no plugins registered for T: not found"


def test_a_failed_plugin_gives_its_own_error_and_never_its_instance() -> None:
    boom = InvalidArgument("boom")
    with pytest.raises(InvalidArgument) as caught:
        PluginSet([Plugin(plugin("F.bad"), error=boom, made="partial")]).get("F")
    assert caught.value is boom


def test_a_skipped_plugin_gives_its_reason() -> None:
    with pytest.raises(SkipPlugin, match="no disk: skip plugin"):
        PluginSet([Plugin(plugin("S.s"), error=SkipPlugin("no disk"))]).get("S")


def test_asking_for_one_of_two_that_work_is_an_error() -> None:
    with pytest.raises(Unknown, match="multiple plugins registered for T: plugin: multiple instances"):
        PluginSet([ok("T.one"), ok("T.two")]).get("T")


def test_the_one_that_works_is_found_beside_failed_ones() -> None:
    failed = Plugin(plugin("T.bad"), error=Unknown("boom"))
    assert PluginSet([failed, ok("T.one")]).get("T") == "instance of T.one"


def test_by_type_lists_skipped_ones_too_in_order() -> None:
    skipped = Plugin(plugin("S.s"), error=SkipPlugin("no disk"))
    assert list(PluginSet([ok("S.z"), skipped, ok("S.a")]).get_by_type("S")) == ["z", "s", "a"]


def test_an_unknown_id_is_named_with_its_type() -> None:
    with pytest.raises(NotFound) as caught:
        PluginSet([ok("T.one")]).get_by_id("T", "zz")
    assert str(caught.value) == "no T plugins with id zz: not found"


def test_an_instance_is_found_by_id() -> None:
    plugins = PluginSet([ok("T.one"), ok("T.two")])
    assert plugins.get_by_id("T", "two") == "instance of T.two"
    assert plugins["T.two"].instance() == "instance of T.two"


def test_a_plugin_is_added_once() -> None:
    plugins = PluginSet([ok("T.one")])
    with pytest.raises(AlreadyExists) as caught:
        plugins.add(ok("T.one"))
    assert str(caught.value) == "plugin T.one already initialized: already exists"
    assert [plugin_.uri for plugin_ in plugins] == ["T.one"]


def test_the_set_can_grow_while_it_is_listed() -> None:
    plugins = PluginSet([ok("T.one")])
    for seen in plugins:
        plugins.add(ok(f"U{len(plugins)}.{seen.registration.id}"))
    assert len(plugins) == 2


@pytest.mark.parametrize(
    "error,status", [(None, "ok"), (SkipPlugin("x"), "skip"), (Unknown("x"), "error")], ids=["ok", "skip", "error"]
)
def test_the_status_is_that_of_ctr(error: Exception | None, status: str) -> None:
    assert Plugin(plugin("T.one"), error=error).status == status
