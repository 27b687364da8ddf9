"""What Read answers, put on the wire by hand: the same bytes as protobuf's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.api import content_v1_pb2 as pb
from refimpl.grpc.pieces import Piece


@given(st.integers(0, 2**63 - 1), st.binary(min_size=1, max_size=300))
def test_any_offset_and_any_data(offset: int, data: bytes) -> None:
    assert Piece(offset, data).SerializeToString() == Piece(offset, data).message().SerializeToString()


@pytest.mark.parametrize("size", [1, 0x7F, 0x80, 0x3FFF, 0x4000, 1 << 20, 1 << 21])
def test_sizes_of_every_length_on_the_wire(size: int) -> None:
    data = b"x" * size
    assert pb.ReadContentResponse.FromString(Piece(5, data).SerializeToString()) == Piece(5, data).message()
    assert Piece(0, data).SerializeToString() == pb.ReadContentResponse(data=data).SerializeToString()
