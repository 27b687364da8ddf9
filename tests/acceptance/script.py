"""The script: chapters of ``ctr`` commands, as data.

A command is written as one would type it. ``<name>`` in it stands for a digest of `images.py` (``<oci.layer1>``), an
archive (``<oci.tar>``) or a value that is too long for a label (``<long>``). Each chapter runs on a new daemon, in a
namespace of its name, and a step sees what earlier ones made.

Two rules keep it repeatable: what no image, lease or root label holds may be collected at any moment, so it is rooted
at once or not looked at again; and no step mounts, because ``ctr`` would do that itself and need root.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.acceptance import normalise
from tests.acceptance.images import DOCKER_NAME, OCI_NAME
from tests.acceptance.normalise import Mask

_ROOT = "containerd.io/gc.root=acceptance"


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        command: What follows ``ctr``, quoted as for a shell.
        stdin: Its standard input.
        env: Additional environment.
        out: What else is normalised in standard output.
        err: The same for standard error.
        show: A file in the working directory whose members are listed after the command, if it is an archive.
    """

    command: str
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    out: Mask | None = None
    err: Mask | None = None
    show: str = ""


@dataclass(frozen=True)
class Chapter:
    """Steps that build on each other.

    Attributes:
        name: Also the namespace in which they run, and the name of the golden file.
        steps: In order.
        watched: Whether ``ctr events`` runs beside them and its lines belong to the outcome.
    """

    name: str
    steps: tuple[Step, ...]
    watched: bool = False


def _steps(*steps: str | Step) -> tuple[Step, ...]:
    return tuple(Step(step) if isinstance(step, str) else step for step in steps)


def _usage(arguments: str = "") -> Step:
    return Step(f"snapshots usage {arguments}".strip(), out=normalise.disk_sizes)


# An imported archive's index, and whatever else nothing holds, goes at the next collection: have that now.
_COLLECT = ("leases create --id collect", "leases rm --sync collect")

DAEMON = Chapter(
    "daemon",
    _steps(
        Step("version", out=normalise.versions, err=normalise.no_warnings),
        Step("plugins ls", out=normalise.first_three_columns),
        Step("plugins ls type==io.containerd.service.v1", out=normalise.first_three_columns),
        "plugins ls -q id==content",
        "plugins ls id==nosuch",
    ),
)

NAMESPACES = Chapter(
    "namespaces",
    _steps(
        "namespaces ls",
        "namespaces create alpha kind=test owner=me",
        "namespaces create alpha",
        "namespaces create beta",
        "namespaces ls",
        "namespaces label alpha kind= colour=blue",
        "namespaces label gamma new=1",
        "namespaces ls",
        "namespaces ls -q",
        "namespaces rm beta",
        "namespaces rm beta",
        "-n alpha snapshots prepare key",
        "-n alpha leases create --id held",
        "namespaces rm alpha",
        "-n alpha snapshots rm key",
        "namespaces rm alpha gamma",
        "namespaces ls",
    ),
)

IMAGES = Chapter(
    "images",
    _steps(
        "images ls",
        "images import <oci.tar>",
        "images import <docker.tar>",
        "images ls",
        "images ls -q",
        f"images ls name=={OCI_NAME}",
        "images ls name~=docker",
        "images check",
        "images check -q",
        *_COLLECT,
        "content ls",
        "snapshots ls",
        f"images tag {OCI_NAME} registry.test/copy:1 registry.test/copy:2",
        f"images tag {OCI_NAME} registry.test/copy:1",
        f"images tag --force {DOCKER_NAME} registry.test/copy:1",
        "images label registry.test/copy:2 a=b c=d",
        "images label registry.test/copy:2 a=",
        "images label --replace-all registry.test/copy:2 only=this",
        "images ls",
        "images rm registry.test/copy:1 nosuch",
        "images ls -q",
    ),
)

IMPORT = Chapter(
    "import",
    _steps(
        "images import --no-unpack <oci.tar>",
        "snapshots ls",
        "images check",
        "images import <oci.tar>",
        "images check",
        "images import --base-name registry.test/other <oci.tar>",
        "images import --digests --base-name registry.test/tools/busybox <oci.tar>",
        "images import --index-name registry.test/index:1 <oci.tar>",
        "images import --snapshotter native <docker.tar>",
        "images ls",
        "snapshots --snapshotter native ls",
        "images check --snapshotter native",
    ),
)

EXPORT = Chapter(
    "export",
    _steps(
        "images import <oci.tar>",
        "images import <docker.tar>",
        Step(f"images export exported.tar {OCI_NAME} {DOCKER_NAME}", show="exported.tar"),
        Step(f"images export --skip-manifest-json plain.tar {OCI_NAME}", show="plain.tar"),
        f"images rm --sync {OCI_NAME} {DOCKER_NAME}",
        "content ls",
        "images import exported.tar",
        "images ls",
        "images check",
        *_COLLECT,
        "content ls",
        Step(f"images export again.tar {OCI_NAME} {DOCKER_NAME}", show="again.tar"),
    ),
)

CONTENT = Chapter(
    "content",
    _steps(
        "content ls",
        Step("content ingest --expected-size 6 hello", stdin=b"hello\n"),
        f"content label <hello> {_ROOT} colour=blue",
        "content get <hello>",
        Step("content ingest --expected-size 6 --expected-digest <hello> again", stdin=b"hello\n"),
        "content label <hello> colour=",
        "content ls",
        "content ls -q labels.colour==blue",
        "content ls -q digest==<hello>",
        "content active",
        Step("content ingest --expected-size 60 half", stdin=b"part\n"),
        "content active",
        Step("content ingest --expected-size 12 half", stdin=b"part\nand more"),
        "content active",
        Step("content edit <hello>", env={"EDITOR": "echo edited >"}),
        f"content label <edited> {_ROOT}",
        "content get <edited>",
        "content rm <hello> <edited>",
        "content rm <hello>",
        "content get <hello>",
        "content ls",
        "images import <oci.tar>",
        "content get <oci.manifest>",
        "content get <oci.config>",
        "content get <oci.layer1>",
        "content get <oci.layer2>",
        "-n elsewhere content get <oci.manifest>",
        *_COLLECT,
        Step("content prune references --dry", err=normalise.sorted_lines),
        "content ls -q",
        "content prune references",
        "content ls -q",
        "content ls",
        "snapshots ls",
    ),
)

SNAPSHOTS = Chapter(
    "snapshots",
    _steps(
        "snapshots ls",
        "snapshots prepare base",
        "snapshots prepare base",
        "snapshots mounts /mnt/target base",
        "snapshots info base",
        "snapshots commit layer1 base",
        "snapshots info base",
        "snapshots prepare --target /mnt/target top layer1",
        "snapshots view --mounts reader layer1",
        f"snapshots label reader {_ROOT} colour=blue",
        "snapshots info reader",
        "snapshots label reader colour=",
        "snapshots mounts /mnt/target reader",
        "snapshots commit layer2 top",
        "snapshots prepare third layer2",
        "snapshots mounts /mnt/target third",
        "snapshots view fourth layer2",
        f"snapshots label fourth {_ROOT}",
        "snapshots mounts /mnt/target fourth",
        "snapshots ls",
        "snapshots tree",
        _usage(),
        _usage("-b layer1 third"),
        "snapshots rm layer1",
        "snapshots rm third fourth layer2",
        "snapshots rm nosuch",
        "snapshots prepare orphan nosuch",
        "snapshots prepare child reader",
        "snapshots mounts /mnt nosuch",
        "snapshots commit layer1 reader",
        "snapshots commit anew reader",
        "snapshots ls",
    ),
)

_OTHERS = ("native",)

SNAPSHOTTERS = Chapter(
    "snapshotters",
    _steps(
        *(
            step
            for name in _OTHERS
            for step in (
                f"snapshots --snapshotter {name} prepare base",
                f"snapshots --snapshotter {name} mounts /mnt/target base",
                f"snapshots --snapshotter {name} commit layer base",
                f"snapshots --snapshotter {name} view reader layer",
                f"snapshots --snapshotter {name} label reader {_ROOT}",
                f"snapshots --snapshotter {name} mounts /mnt/target reader",
                f"snapshots --snapshotter {name} ls",
                f"snapshots --snapshotter {name} info layer",
            )
        ),
        "snapshots ls",
        "snapshots --snapshotter nosuch ls",
        "snapshots --snapshotter nosuch prepare base",
    ),
)

DIFF = Chapter(
    "diff",
    _steps(
        "images import <oci.tar>",
        _usage("<oci.diff1> <oci.chain2> <oci.chain3>"),
        "snapshots tree",
        "snapshots diff <oci.chain2>",
        "snapshots diff <oci.chain3>",
        "snapshots diff <oci.diff1> <oci.chain3>",
        "snapshots diff --media-type application/vnd.oci.image.layer.v1.tar <oci.chain2>",
        "snapshots prepare same <oci.chain3>",
        "snapshots diff same",
        "snapshots diff --media-type nonsense same",
        "snapshots diff nosuch",
        "snapshots ls",
        "snapshots unpack <oci.manifest>",
    ),
)

LEASES = Chapter(
    "leases",
    _steps(
        "leases ls",
        "leases create --id one colour=blue size=3",
        "leases create --id two --expires 1h",
        "leases create --id two",
        "leases create --id ../three",
        "leases create",
        "leases ls",
        "leases ls id==one",
        "leases ls -q labels.colour==blue",
        "leases rm one",
        "leases rm one",
        "leases rm --sync two ../three",
        "leases ls -q id==two",
    ),
)

CONTAINERS = Chapter(
    "containers",
    _steps(
        "containers ls",
        "containers create --rootfs --label colour=blue --env A=b /srv one sleep 5",
        "containers create --rootfs /srv one",
        "containers create --rootfs --runtime io.containerd.other.v1 /srv two true",
        "containers ls",
        "containers ls -q",
        "containers ls -q labels.colour==blue",
        "containers ls -q runtime.name==io.containerd.other.v1",
        "containers info one",
        "containers info --spec two",
        "containers label one colour= size=3",
        "containers label two a=b",
        "containers info one",
        "containers create nosuch three",
        "containers info three",
        "containers rm one two",
        "containers rm one",
        "containers ls",
    ),
)

COLLECTION = Chapter(
    "collection",
    _steps(
        "images import <oci.tar>",
        "images import <docker.tar>",
        f"images rm --sync {OCI_NAME}",
        "content ls",
        "snapshots ls",
        "images check",
        "snapshots prepare kept <docker.chain2>",
        f"images rm --sync {DOCKER_NAME}",
        "content ls",
        "snapshots ls",
        "snapshots rm kept",
        *_COLLECT,
        "snapshots ls",
    ),
)

EVENTS = Chapter(
    "events",
    _steps(
        "namespaces create seen a=b",
        "namespaces label seen c=d",
        "namespaces rm seen",
        Step("content ingest hello", stdin=b"hello\n"),
        f"content label <hello> {_ROOT}",
        "content rm <hello>",
        "images import <oci.tar>",
        f"images tag {OCI_NAME} registry.test/copy:1",
        "images label registry.test/copy:1 a=b",
        "images rm registry.test/copy:1",
        "snapshots prepare key",
        "snapshots commit name key",
        "snapshots label name a=b",
        "snapshots rm name",
        "leases create --id silent",
        "leases rm silent",
        "containers create --rootfs --label a=b /srv one true",
        "containers label one c=d",
        "containers rm one",
        "-n other snapshots prepare key",
    ),
    watched=True,
)

BAD_NAMES = Chapter(
    "bad-names",
    _steps(
        "namespaces create ../up",
        "namespaces create two..dots",
        "namespaces create ''",
        "namespaces create " + "n" * 77,
        "-n unknown images ls",
        "-n unknown content ls",
        "-n unknown containers info nosuch",
        "-n ../up images ls",
        "-n No! content ls",
        "-n No! content active",
        "-n No! snapshots ls",
        "-n No! leases ls",
        "-n No! containers ls",
        "-n No! snapshots prepare key",
        "-n No! leases create --id one",
        "-n No! images import <oci.tar>",
        "containers create --rootfs /srv ../up",
        "containers create --rootfs /srv two..dots",
        "containers info ../up",
        "containers label ../up a=b",
        "containers rm ../up",
        "images tag nosuch copy",
        "images label nosuch a=b",
        "images rm ''",
        "images export out.tar nosuch",
        "snapshots prepare ''",
        "snapshots info ''",
        "snapshots label nosuch a=b",
        "leases rm nosuch",
        "namespaces ls",
        "containers ls",
        "snapshots ls",
    ),
)

BAD_CONTENT = Chapter(
    "bad-content",
    _steps(
        "content get nonsense",
        "content get sha256:abc",
        "content get <zeros>",
        "content label nonsense a=b",
        "content label <zeros> a=b",
        "content rm nonsense <zeros>",
        "content edit <zeros>",
        "content ingest ''",
        Step("content ingest --expected-digest sha256:abc ref", stdin=b"x\n"),
        Step("content ingest --expected-digest <zeros> ref", stdin=b"x\n"),
        Step("content ingest --expected-size 1 ref2", stdin=b"too long\n"),
        Step("content ingest ../../ref", stdin=b"part\n"),
        "images import <cut.tar>",
        Step("images import <broken.tar>", err=normalise.kind_only),
        "images import nosuch.tar",
        "images ls -q",
        "snapshots ls",
        "containers create --rootfs --label big=<long> /srv one true",
        "containers ls",
        "namespaces create big big=<long>",
        "namespaces ls",
        "images import <oci.tar>",
        f"images label {OCI_NAME} big=<long>",
        "content label <oci.layer1> big=<long>",
        "snapshots label <oci.diff1> big=<long>",
        "leases create --id long big=<long>",
        f"images tag {OCI_NAME} ''",
        "images ls",
        *_COLLECT,
        "content ls",
        Step("content active", out=normalise.sorted_lines),
    ),
)

BAD_FILTERS = Chapter(
    "bad-filters",
    _steps(
        *(
            f"{command} '{text}'"
            for text in ("name==", "name===x", "[", "name~=[", 'name=="open', "nosuch==x", "a,b")
            for command in ("images ls", "content ls", "containers ls", "leases ls", "plugins ls -q", "content active")
        ),
        "images check name==",
        "events topic~=",
        "events [",
    ),
)

CHAPTERS = (
    DAEMON,
    NAMESPACES,
    IMAGES,
    IMPORT,
    EXPORT,
    CONTENT,
    SNAPSHOTS,
    SNAPSHOTTERS,
    DIFF,
    LEASES,
    CONTAINERS,
    COLLECTION,
    EVENTS,
    BAD_NAMES,
    BAD_CONTENT,
    BAD_FILTERS,
)
