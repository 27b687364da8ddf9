"""Arithmetic of the fake shell: ``$((...))`` over integers."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

_TOKEN = re.compile(r"\s*(\d+|[A-Za-z_]\w*|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%<>&|^~!()?:])")

_BINARY: dict[str, tuple[int, Callable[[int, int], int]]] = {
    "||": (1, lambda a, b: int(bool(a or b))),
    "&&": (2, lambda a, b: int(bool(a and b))),
    "|": (3, operator.or_),
    "^": (4, operator.xor),
    "&": (5, operator.and_),
    "==": (6, lambda a, b: int(a == b)),
    "!=": (6, lambda a, b: int(a != b)),
    "<": (7, lambda a, b: int(a < b)),
    ">": (7, lambda a, b: int(a > b)),
    "<=": (7, lambda a, b: int(a <= b)),
    ">=": (7, lambda a, b: int(a >= b)),
    "<<": (8, lambda a, b: a << min(b, 64)),
    ">>": (8, lambda a, b: a >> min(b, 64)),
    "+": (9, operator.add),
    "-": (9, operator.sub),
    "*": (10, operator.mul),
    "/": (10, lambda a, b: int(a / b)),
    "%": (10, lambda a, b: a - b * int(a / b)),
}
_UNARY: dict[str, Callable[[int], int]] = {
    "-": operator.neg,
    "+": operator.pos,
    "!": lambda a: int(not a),
    "~": operator.invert,
}


def evaluate(text: str, value: Callable[[str], str]) -> int:
    """The value of an expression.

    Args:
        value: the text of a variable; empty counts as 0.

    Raises:
        ValueError: it is none, or divides by zero; the text is the shell's message.
    """
    return _Evaluation(text, value).result()


class _Evaluation:
    def __init__(self, text: str, value: Callable[[str], str]) -> None:
        self._value = value
        self._tokens: list[str] = []
        at, text = 0, text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ValueError("arithmetic syntax error")
            self._tokens.append(match[1])
            at = match.end()

    def result(self) -> int:
        if not self._tokens:
            return 0
        result = self._binary(0)
        if self._tokens:
            raise ValueError("arithmetic syntax error")
        # 64 bits, as a C long.
        return (result + (1 << 63)) % (1 << 64) - (1 << 63)

    def _binary(self, least: int) -> int:
        left = self._unary()
        while self._tokens and self._tokens[0] in _BINARY and _BINARY[self._tokens[0]][0] > least:
            name = self._tokens.pop(0)
            level, apply = _BINARY[name]
            right = self._binary(level)
            if name in "/%" and right == 0:
                raise ValueError("divide by zero")
            left = apply(left, right)
        return left

    def _unary(self) -> int:
        if not self._tokens:
            raise ValueError("arithmetic syntax error")
        word = self._tokens.pop(0)
        if word in _UNARY:
            return _UNARY[word](self._unary())
        if word == "(":
            inside = self._binary(0)
            if not self._tokens or self._tokens.pop(0) != ")":
                raise ValueError("arithmetic syntax error")
            return inside
        text = word if word.isdecimal() else self._value(word).strip() or "0"
        try:
            return int(text)
        except ValueError:
            raise ValueError("arithmetic syntax error") from None
