"""The wire: .proto files, the code generated from them, and type URLs.

One file a protobuf package: ``content_v1.proto`` is ``containerd.services.content.v1`` and is imported as
``from refimpl.api import content_v1_pb2``; services spoken over gRPC also have ``content_v1_pb2_grpc``. The .proto
files are the source. ``python -m refimpl.api.generate`` makes the rest, which is committed so that using refimpl needs
no compiler.

This module imports nothing, so that a program pays only for the messages it uses.
"""
