"""Initialising plugins: what each is given, what becomes of its failure, what is closed when (PLG-012 to PLG-063)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from refimpl.contract.errors import InvalidArgument, NotFound, Unknown
from refimpl.contract.times import SystemClock
from refimpl.contract.types import Platform
from refimpl.kernel import ConfigError, Configuration, InitContext, Plugin, RequiredPluginError, SkipPlugin
from refimpl.kernel.config import GRPCConfig, RefimplConfig, Section, StreamProcessor
from refimpl.kernel.kernel import machine_platform
from tests.kernel.plugins import failing, kernel, plugin


@dataclass(frozen=True)
class Settings:
    """Of a plugin."""

    size: int = 3
    name: str = "default"


@dataclass
class Closing:
    """An instance that remembers when it was closed."""

    name: str
    record: list[str] = field(default_factory=list)
    error: Exception | None = None

    def close(self) -> None:
        self.record.append(self.name)
        if self.error is not None:
            raise self.error


def context_of(*, configuration: Configuration | None = None, **registration: object) -> InitContext:
    """What the init of a plugin is given."""
    given: list[InitContext] = []

    def init(ic: InitContext) -> object:
        given.append(ic)
        return ic

    kernel(plugin("io.a.b.v1.x", init=init, **registration), configuration=configuration).boot()
    return given[0]


def test_each_plugin_has_directories_of_its_own_that_nobody_made(tmp_path: Path) -> None:
    given = kernel(plugin("io.a.b.v1.x", init=lambda ic: ic), base=tmp_path).boot().get("io.a.b.v1")
    assert isinstance(given, InitContext)
    assert given.root == tmp_path / "root/io.a.b.v1.x"
    assert given.state == tmp_path / "state/io.a.b.v1.x"
    assert list(tmp_path.iterdir()) == []


def test_the_addresses_are_handed_over() -> None:
    given = context_of(configuration=Configuration(grpc=GRPCConfig(address="/run/x.sock")))
    assert (given.address, given.ttrpc_address) == ("/run/x.sock", "/run/x.sock.ttrpc")


def test_timeouts_are_handed_over_in_seconds() -> None:
    given = context_of(configuration=Configuration(timeouts={"io.containerd.timeout.bolt.open": "500ms"}))
    assert given.timeouts == {"io.containerd.timeout.bolt.open": 0.5}


def test_stream_processors_are_handed_over_in_the_order_of_the_file() -> None:
    processors = {"b": StreamProcessor(["x"], "y", "cat"), "a": StreamProcessor(["y"], "z", "cat")}
    given = context_of(configuration=Configuration(stream_processors=processors))
    assert list(given.stream_processors.items()) == list(processors.items())


def test_a_plugin_without_a_section_gets_its_defaults() -> None:
    assert context_of(config=Settings).config == Settings()


def test_a_plugin_without_a_configuration_gets_none() -> None:
    assert context_of().config is None


def test_a_section_overrides_only_its_keys() -> None:
    configuration = Configuration(plugins={"io.a.b.v1.x": Section({"size": 7})})
    assert context_of(configuration=configuration, config=Settings).config == Settings(size=7)


def test_a_section_of_the_wrong_type_stops_everything() -> None:
    configuration = Configuration(plugins={"io.a.b.v1.x": Section({"size": "many"})})
    with pytest.raises(ConfigError, match="'many'"):
        context_of(configuration=configuration, config=Settings)


def test_an_unknown_key_is_refused_by_name() -> None:
    configuration = Configuration(plugins={"io.a.b.v1.x": Section({"zork": 7})})
    with pytest.raises(ConfigError, match="zork: unknown key"):
        context_of(configuration=configuration, config=Settings)


def test_an_unknown_key_is_only_logged_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("refimpl").propagate = True
    configuration = Configuration(plugins={"io.a.b.v1.x": Section({"zork": 7, "size": 5})})
    plugins = kernel(
        plugin("io.a.b.v1.x", init=lambda ic: ic.config, config=Settings), configuration=configuration, strict=False
    ).boot()
    assert plugins.get("io.a.b.v1") == Settings(size=5)
    assert "Ignoring unknown key in TOML for plugin" in caplog.messages


def test_a_disabled_plugin_is_neither_made_nor_listed_nor_is_its_section_read() -> None:
    configuration = Configuration(
        disabled_plugins=["io.a.b.v1.x", "io.a.b.v1.x", "io.nothing.at.all"],
        plugins={"io.a.b.v1.x": Section({"size": "many"})},
    )
    disabled = plugin("io.a.b.v1.x", init=failing(AssertionError()), config=Settings)
    plugins = kernel(disabled, plugin("io.c.d.v1.y"), configuration=configuration).boot()
    assert [listed.uri for listed in plugins] == ["io.c.d.v1.y"]


def test_names_of_disabled_plugins_are_compared_exactly() -> None:
    configuration = Configuration(disabled_plugins=["io.a.b.v1.X"])
    assert "io.a.b.v1.x" in kernel(plugin("io.a.b.v1.x"), configuration=configuration).boot()


def test_in_version_1_an_id_disables_every_plugin_that_has_it() -> None:
    configuration = Configuration(version=1, disabled_plugins=["x", "io.c.d.v1.y"])
    plugins = kernel(plugin("io.a.b.v1.x"), plugin("io.c.d.v1.x"), plugin("io.c.d.v1.y"), configuration=configuration)
    assert [listed.uri for listed in plugins.boot()] == ["io.c.d.v1.y"]


def test_a_failure_stops_nobody_else() -> None:
    plugins = kernel(plugin("A.a", init=failing(InvalidArgument("bad"))), plugin("B.b")).boot()
    assert (plugins["A.a"].status, plugins["B.b"].status) == ("error", "ok")


def test_a_failure_travels_to_the_dependents_with_its_class_and_text() -> None:
    cause = InvalidArgument("unknown policy: bogus")
    plugins = kernel(plugin("B.b", "A", init=lambda ic: ic.get("A")), plugin("A.a", init=failing(cause))).boot()
    assert plugins["B.b"].error is cause


def test_a_missing_dependency_is_told_by_whoever_needs_it() -> None:
    plugins = kernel(plugin("B.b", "A", init=lambda ic: ic.get("A"))).boot()
    assert isinstance(plugins["B.b"].error, NotFound)
    assert str(plugins["B.b"].error) == "no plugins registered for A: not found"


def test_a_plugin_with_an_unmet_requirement_that_it_can_do_without_works() -> None:
    assert kernel(plugin("B.b", "A")).boot()["B.b"].status == "ok"


def test_a_skip_is_kept_as_a_skip() -> None:
    plugins = kernel(plugin("A.a", init=failing(SkipPlugin("no zfs")))).boot()
    assert (plugins["A.a"].status, str(plugins["A.a"].error)) == ("skip", "no zfs: skip plugin")


@pytest.mark.parametrize(
    "raised,text",
    [
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (ValueError("no such mode"), "no such mode"),
        (FileExistsError(20, "Not a directory", "/r/x"), "/r/x: not a directory"),
        (OSError(5, "Input/output error"), "input/output error"),
    ],
    ids=["bug", "value", "file", "os"],
)
def test_an_unexpected_exception_is_that_plugins_failure(raised: Exception, text: str) -> None:
    plugins = kernel(plugin("A.a", init=failing(raised)), plugin("B.b")).boot()
    error = plugins["A.a"].error
    assert isinstance(error, Unknown)
    assert str(error) == text
    assert error.__cause__ is raised
    assert plugins["B.b"].status == "ok"


def test_what_was_told_before_a_failure_stays_visible() -> None:
    def init(ic: InitContext) -> object:
        ic.exports["root"] = "/r"
        ic.capabilities.append("rebase")
        raise SkipPlugin("no zfs")

    listed = kernel(plugin("A.a", init=init, platforms=True)).boot()["A.a"]
    assert listed.exports == {"root": "/r"}
    assert listed.capabilities == ["rebase"]
    assert listed.platforms == [machine_platform()]


def test_a_plugin_that_depends_on_no_machine_has_no_platform() -> None:
    assert kernel(plugin("A.a")).boot()["A.a"].platforms == []


def test_platforms_can_be_named() -> None:
    arm = Platform("linux", "arm64", "v8")
    assert kernel(plugin("A.a", platforms=(arm,))).boot()["A.a"].platforms == [arm]


def test_a_required_plugin_that_does_not_exist_ends_the_start_before_anything_is_made() -> None:
    made: list[str] = []
    configuration = Configuration(required_plugins=["io.nothing.v1.nope", "io.nothing.v1.nor"])
    with pytest.raises(RequiredPluginError) as caught:
        kernel(plugin("A.a", init=lambda ic: made.append(ic.uri)), configuration=configuration).boot()
    assert str(caught.value) == "required plugin [io.nothing.v1.nope io.nothing.v1.nor] not included"
    assert made == []


def test_a_required_plugin_that_is_disabled_does_not_exist() -> None:
    configuration = Configuration(required_plugins=["A.a"], disabled_plugins=["A.a"])
    with pytest.raises(RequiredPluginError, match=r"required plugin \[A\.a\] not included"):
        kernel(plugin("A.a"), configuration=configuration).boot()


def test_a_required_plugin_that_skips_stops_the_start_there_and_closes_what_was_made() -> None:
    first, later = Closing("first"), []
    booting = kernel(
        plugin("A.a", init=lambda _: first),
        plugin("B.b", init=failing(SkipPlugin("no zfs"))),
        plugin("C.c", init=lambda ic: later.append(ic.uri)),
        configuration=Configuration(required_plugins=["B.b"]),
    )
    with pytest.raises(RequiredPluginError) as caught:
        booting.boot()
    assert str(caught.value) == "load required plugin B.b: no zfs: skip plugin"
    assert (first.record, later) == (["first"], [])


def test_required_plugins_that_work_are_no_hindrance() -> None:
    assert len(kernel(plugin("A.a"), configuration=Configuration(required_plugins=["A.a"])).boot()) == 1


def test_plugins_are_closed_in_reverse_and_a_failing_one_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("refimpl").propagate = True
    record: list[str] = []
    running = kernel(
        plugin("A.a", init=lambda _: Closing("a", record)),
        plugin("B.b", "A", init=lambda _: Closing("b", record, Unknown("stuck"))),
        plugin("C.c", "B", init=lambda _: Closing("c", record)),
        plugin("D.d", "C"),
    )
    running.boot()
    running.close()
    assert record == ["c", "b", "a"]
    assert "failed to close plugin" in caplog.messages
    running.close()
    assert record == ["c", "b", "a"], "closing twice changes nothing"


def test_later_plugins_are_seen_by_who_asks_later() -> None:
    plugins = kernel(plugin("A.a", init=lambda ic: ic.plugins), plugin("B.b")).boot()
    listing = plugins.get("A")
    assert callable(listing)
    assert [listed.uri for listed in listing()] == ["A.a", "B.b"]


def test_looking_up_by_id_and_by_type_goes_through_the_context() -> None:
    def init(ic: InitContext) -> object:
        by_type: dict[str, Plugin] = ic.get_by_type("A")
        return ic.get_by_id("A", "b"), list(by_type)

    assert kernel(plugin("B.x", "A", init=init), plugin("A.a"), plugin("A.b")).boot().get("B") == ("A.b", ["a", "b"])


def test_a_clock_of_ones_own_is_given_to_plugins() -> None:
    clock = SystemClock()
    assert kernel(plugin("A.a", init=lambda ic: ic.clock), clock=clock).boot().get("A") is clock


def test_the_table_refimpl_backends_wins_over_the_choice_of_the_caller() -> None:
    twins = [plugin("A.a", backend=backend, init=lambda ic: ic.registration.backend) for backend in ("real", "fake")]
    assert kernel(*twins, backends="real").boot().get("A") == "real"
    one = Configuration(refimpl=RefimplConfig(backends={"A.a": "fake"}))
    assert kernel(*twins, backends="real", configuration=one).boot().get("A") == "fake"
    everything = Configuration(refimpl=RefimplConfig(backends={"default": "fake"}))
    assert kernel(*twins, backends="real", configuration=everything).boot().get("A") == "fake"
