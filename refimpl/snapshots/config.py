"""The snapshotters' sections of the configuration, in containerd's keys and defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass

from refimpl.contract.errors import Unknown

_SIZE = re.compile(r"\d+(\.\d+)? ?([kKmMgGtTpP]?[iI]?[bB]?)")


@dataclass(frozen=True, slots=True)
class Config:
    """The section of aufs, btrfs, native and zfs.

    Attributes:
        root_path: where everything is kept; empty for the plugin's own directory (SNX-003).
    """

    root_path: str = ""


@dataclass(frozen=True, slots=True)
class OverlayConfig(Config):
    """The section of overlayfs (SNX-006).

    Attributes:
        upperdir_label: answer with a label that says where the layer is.
    """

    upperdir_label: bool = False


@dataclass(frozen=True, slots=True)
class DevmapperConfig(Config):
    """The section of devmapper (SNX-046).

    Attributes:
        pool_name: the thin pool.
        base_image_size: size of a device, such as ``10GB``.
        async_remove: delete devices in Cleanup only.
        discard_blocks: discard a device's blocks before it is removed.
        fs_type: ext4 or xfs.
        fs_options: options for mkfs.
    """

    pool_name: str = ""
    base_image_size: str = ""
    async_remove: bool = False
    discard_blocks: bool = False
    fs_type: str = ""
    fs_options: str = ""


def check_size(text: str) -> None:
    """Refuse a ``base_image_size`` that is none.

    Raises:
        Unknown: with containerd's text (SNX-047).
    """
    if not _SIZE.fullmatch(text):
        raise Unknown(f"failed to parse base image size: '{text}': invalid size: '{text}'")


def check_fs_type(text: str) -> None:
    """Refuse a ``fs_type`` of devmapper that is neither ext4, the default, nor xfs.

    Raises:
        Unknown: with containerd's text (SNX-048).
    """
    if text not in {"", "ext4", "xfs"}:
        raise Unknown(f'1 error occurred:\n\t* unsupported Filesystem Type: "{text}"\n\n')
