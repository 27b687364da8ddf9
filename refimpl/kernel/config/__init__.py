"""The configuration: containerd's ``config.toml``, versions 1 and 2, with imports, as typed values.

``load`` reads and merges files into a ``Configuration``; ``decode`` turns a plugin's section into the plugin's own
dataclass; ``document`` turns everything back into a file. Clauses DMN-001 to DMN-018, DMN-057 to DMN-059, PLG-031 to
PLG-041.
"""

from refimpl.kernel.config.decode import Unknown, decode, refuse_unknown
from refimpl.kernel.config.durations import Duration
from refimpl.kernel.config.errors import ConfigError, Position
from refimpl.kernel.config.model import (
    CgroupConfig,
    Configuration,
    DebugConfig,
    GRPCConfig,
    MetricsConfig,
    ProxyPlugin,
    RefimplConfig,
    Section,
    StreamProcessor,
    TTRPCConfig,
)
from refimpl.kernel.config.reader import DEFAULT_PATH, load
from refimpl.kernel.config.writer import document, migrate

__all__ = [
    "DEFAULT_PATH",
    "CgroupConfig",
    "ConfigError",
    "Configuration",
    "DebugConfig",
    "Duration",
    "GRPCConfig",
    "MetricsConfig",
    "Position",
    "ProxyPlugin",
    "RefimplConfig",
    "Section",
    "StreamProcessor",
    "TTRPCConfig",
    "Unknown",
    "decode",
    "document",
    "load",
    "migrate",
    "refuse_unknown",
]
