"""The configuration's values, with containerd's defaults (DMN-002).

Version 2 names plugins by URI; in version 1, and in a file without a version, they are named by bare id, and a name
means every plugin of that id (DMN-003, DMN-004). Both forms live in the same lists; ``Configuration`` alone knows the
difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refimpl.kernel.config.errors import Position
from refimpl.kernel.registration import Registration

MESSAGE_SIZE = 16 << 20
"""Default limit of a gRPC message, in bytes."""


@dataclass(frozen=True, slots=True)
class GRPCConfig:
    """The main socket, and the optional TCP listener.

    Attributes:
        uid, gid: owner of the socket.
        max_recv_message_size, max_send_message_size: bytes; zero or less means gRPC's own 4 MiB (DMN-068).
    """

    address: str = "/run/containerd/containerd.sock"
    tcp_address: str = ""
    tcp_tls_ca: str = ""
    tcp_tls_cert: str = ""
    tcp_tls_key: str = ""
    uid: int = 0
    gid: int = 0
    max_recv_message_size: int = MESSAGE_SIZE
    max_send_message_size: int = MESSAGE_SIZE


@dataclass(frozen=True, slots=True)
class TTRPCConfig:
    """The ttrpc socket. Without an address it stands beside the gRPC socket and has its owner (DMN-028)."""

    address: str = ""
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class DebugConfig:
    """The debug endpoint and the log.

    Attributes:
        level: of the log; empty for ``info``.
        format: ``text`` or ``json``; empty for ``text``.
    """

    address: str = ""
    uid: int = 0
    gid: int = 0
    level: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """The metrics endpoint (TCP only)."""

    address: str = ""
    grpc_histogram: bool = False


@dataclass(frozen=True, slots=True)
class CgroupConfig:
    """Where the daemon puts itself."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class ProxyPlugin:
    """A plugin served by another process over gRPC (PLG-042)."""

    type: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class StreamProcessor:
    """A program through which a differ sends a layer."""

    accepts: list[str] = field(default_factory=list)
    returns: str = ""
    path: str = ""
    args: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RefimplConfig:
    """The one table that containerd does not know (and so ignores).

    Attributes:
        backends: ``real``, ``fake`` or ``auto`` by URI; ``default`` is for all others.
    """

    backends: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Section:
    """A plugin's part of the configuration, not yet decoded."""

    values: Mapping[str, Any]
    position: Position = field(default_factory=Position)


def _timeouts() -> dict[str, str]:
    return {
        "io.containerd.timeout.bolt.open": "0s",
        "io.containerd.timeout.shim.cleanup": "5s",
        "io.containerd.timeout.shim.load": "5s",
        "io.containerd.timeout.shim.shutdown": "3s",
        "io.containerd.timeout.task.state": "2s",
    }


def _stream_processors() -> dict[str, StreamProcessor]:
    keys = "/etc/containerd/ocicrypt/keys"
    env = ["OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf"]
    tar = "application/vnd.oci.image.layer.v1.tar"
    return {
        f"io.containerd.ocicrypt.decoder.v1.tar{suffix}": StreamProcessor(
            accepts=[f"{tar}{media_suffix}+encrypted"],
            returns=f"{tar}{media_suffix}",
            path="ctd-decoder",
            args=["--decryption-keys-path", keys],
            env=env,
        )
        for suffix, media_suffix in (("", ""), (".gzip", "+gzip"))
    }


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that a file can say.

    Attributes:
        version: 1 or 2 as written; 0 for a file without one, which means 1. Newer numbers are read as 2 (DMN-006).
        root, state: directories that survive a reboot, and that do not.
        temp: directory for temporary files; empty for the system's.
        disabled_plugins, required_plugins: URIs (version 1: ids).
        plugins: their sections, by URI (version 1: by id).
        timeouts: durations by name, as text.
        imports: further files; after loading, all files that were read.
    """

    version: int = 2
    root: str = "/var/lib/containerd"
    state: str = "/run/containerd"
    temp: str = ""
    plugin_dir: str = ""
    grpc: GRPCConfig = GRPCConfig()
    ttrpc: TTRPCConfig = TTRPCConfig()
    debug: DebugConfig = DebugConfig()
    metrics: MetricsConfig = MetricsConfig()
    disabled_plugins: list[str] = field(default_factory=list)
    required_plugins: list[str] = field(default_factory=list)
    plugins: Mapping[str, Section] = field(default_factory=dict)
    oom_score: int = 0
    cgroup: CgroupConfig = CgroupConfig()
    proxy_plugins: dict[str, ProxyPlugin] = field(default_factory=dict)
    timeouts: dict[str, str] = field(default_factory=_timeouts)
    imports: list[str] = field(default_factory=list)
    stream_processors: dict[str, StreamProcessor] = field(default_factory=_stream_processors)
    refimpl: RefimplConfig = RefimplConfig()

    @property
    def by_id(self) -> bool:
        """Whether plugins are named by bare id."""
        return self.version in {0, 1}

    def name(self, registration: Registration) -> str:
        """How this configuration names a plugin."""
        return registration.id if self.by_id else registration.uri

    def disables(self, registration: Registration) -> bool:
        """Whether the plugin is left out (PLG-031, PLG-032)."""
        return self.name(registration) in self.disabled_plugins

    def requires(self, registration: Registration) -> bool:
        """Whether nothing may start without the plugin (PLG-037)."""
        return self.name(registration) in self.required_plugins

    def section(self, registration: Registration) -> Section | None:
        """What is configured for the plugin."""
        return self.plugins.get(self.name(registration))

    @property
    def ttrpc_address(self) -> str:
        """Path of the ttrpc socket, derived from the gRPC one if nothing else is said (DMN-017)."""
        return self.ttrpc.address or f"{self.grpc.address}.ttrpc"
