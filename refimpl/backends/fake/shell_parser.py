"""The parser of the fake shell: from tokens to commands."""

from __future__ import annotations

from refimpl.backends.fake.shell_lexer import END, Lexer, Token
from refimpl.backends.fake.shell_syntax import (
    NAME,
    NAME_START,
    AndOr,
    Case,
    For,
    Function,
    If,
    Loop,
    Node,
    Pipeline,
    Redirect,
    Redirected,
    Sequence,
    Simple,
    Subshell,
    SyntaxFailure,
    Text,
    Word,
    plain,
)

_REDIRECTS = frozenset({"<", ">", ">>", ">&", "<&", "<>", ">|"})
_RESERVED = frozenset(
    {"!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "until", "while"}
)


def parse(text: str) -> Node:
    """Read a script.

    Raises:
        SyntaxFailure: it cannot be read.
    """
    return _Parser(text).script()


class _Parser:
    def __init__(self, text: str) -> None:
        self._lexer = Lexer(text, parse)
        self._number: int | None = None
        self._here: Token = END
        self._advance()

    def _advance(self) -> None:
        self._number = self._lexer.redirected_number()
        self._here = self._lexer.token()

    def script(self) -> Node:
        body = self._sequence()
        if not self._at(END):
            raise self._unexpected()
        return body

    @property
    def _reserved(self) -> str:
        """The reserved word here, or nothing."""
        text = plain(self._here) if isinstance(self._here, tuple) else None
        return text if text in _RESERVED and text is not None else ""

    def _unexpected(self, expected: str = "") -> SyntaxFailure:
        hint = f' (expecting "{expected}")' if expected else ""
        if self._at(END):
            return SyntaxFailure(f"unexpected end of file{hint}", incomplete=True)
        if self._at("\n"):
            return SyntaxFailure(f"unexpected newline{hint}")
        if isinstance(self._here, tuple):
            shown = plain(self._here)
            return SyntaxFailure(f'unexpected "{shown}"{hint}' if shown else f"unexpected word{hint}")
        return SyntaxFailure(f'unexpected "{self._here}"{hint}')

    def _at(self, *operators: str) -> bool:
        """Whether one of these operators is here."""
        return isinstance(self._here, str) and self._here in operators

    def _expect(self, word: str) -> None:
        if self._reserved != word and not self._at(word):
            raise self._unexpected(word)
        self._advance()

    def _skip_newlines(self) -> None:
        while self._at("\n"):
            self._advance()

    def _sequence(self) -> Node:
        items: list[tuple[Node, bool]] = []
        while True:
            self._skip_newlines()
            if not self._starts_command():
                return Sequence(tuple(items))
            node = self._and_or()
            wait = not self._at("&")
            items.append((node, wait))
            if self._at("&", ";", "\n"):
                self._advance()
            else:
                return Sequence(tuple(items))

    def _starts_command(self) -> bool:
        if isinstance(self._here, tuple):
            return self._reserved in {"", "!", "{", "if", "while", "until", "for", "case"}
        return self._at("(") or self._at(*_REDIRECTS)

    def _body(self, *ends: str) -> Node:
        body = self._sequence()
        if self._reserved not in ends and not self._at(*ends):
            raise self._unexpected(ends[-1] if len(ends) == 1 else ends[0])
        if not isinstance(body, Sequence) or not body.items:
            raise self._unexpected()
        return body

    def _and_or(self) -> Node:
        left = self._pipeline()
        while self._at("&&", "||"):
            op = str(self._here)
            self._advance()
            self._skip_newlines()
            left = AndOr(left, op, self._pipeline())
        return left

    def _pipeline(self) -> Node:
        negated = self._reserved == "!"
        if negated:
            self._advance()
        commands = [self._command()]
        while self._at("|"):
            self._advance()
            self._skip_newlines()
            commands.append(self._command())
        return commands[0] if len(commands) == 1 and not negated else Pipeline(tuple(commands), negated)

    def _command(self) -> Node:
        compound = self._compound()
        if compound is None:
            return self._simple()
        redirects = self._redirects()
        return Redirected(compound, redirects) if redirects else compound

    def _compound(self) -> Node | None:
        if self._at("("):
            self._advance()
            body = self._body(")")
            self._advance()
            return Subshell(body)
        match self._reserved:
            case "{":
                self._advance()
                body = self._body("}")
                self._advance()
                return body
            case "if":
                return self._if()
            case "while" | "until":
                return self._loop()
            case "for":
                return self._for()
            case "case":
                return self._case()
        return None

    def _if(self) -> Node:
        branches: list[tuple[Node, Node]] = []
        otherwise: Node | None = None
        while True:
            self._advance()
            condition = self._body("then")
            self._advance()
            branches.append((condition, self._body("fi", "elif", "else")))
            if self._reserved != "elif":
                break
        if self._reserved == "else":
            self._advance()
            otherwise = self._body("fi")
        self._advance()
        return If(tuple(branches), otherwise)

    def _loop(self) -> Node:
        until = self._reserved == "until"
        self._advance()
        condition = self._body("do")
        return Loop(condition, self._do(), until)

    def _do(self) -> Node:
        self._expect("do")
        body = self._body("done")
        self._advance()
        return body

    def _for(self) -> Node:
        self._advance()
        name = plain(self._here) if isinstance(self._here, tuple) else None
        if name is None:
            raise SyntaxFailure("bad for loop variable")
        self._advance()
        self._skip_newlines()
        words: list[Word] | None = None
        if self._reserved == "in":
            self._advance()
            words = []
            while isinstance(self._here, tuple):
                words.append(self._here)
                self._advance()
        if self._at(";"):
            self._advance()
        self._skip_newlines()
        return For(name, None if words is None else tuple(words), self._do())

    def _case(self) -> Node:
        self._advance()
        if not isinstance(self._here, tuple):
            raise self._unexpected()
        word = self._here
        self._advance()
        self._skip_newlines()
        self._expect("in")
        branches: list[tuple[tuple[Word, ...], Node]] = []
        self._skip_newlines()
        while self._reserved != "esac":
            branches.append((self._patterns(), self._sequence()))
            if self._at(";;"):
                self._advance()
                self._skip_newlines()
            elif self._reserved != "esac":
                raise self._unexpected(";;")
        self._advance()
        return Case(word, tuple(branches))

    def _patterns(self) -> tuple[Word, ...]:
        if self._at("("):
            self._advance()
        patterns: list[Word] = []
        while True:
            if not isinstance(self._here, tuple):
                raise self._unexpected()
            patterns.append(self._here)
            self._advance()
            if not self._at("|"):
                break
            self._advance()
        self._expect(")")
        return tuple(patterns)

    def _redirects(self) -> tuple[Redirect, ...]:
        found: list[Redirect] = []
        while self._at(*_REDIRECTS):
            op, number = str(self._here), self._number
            self._advance()
            if not isinstance(self._here, tuple):
                raise self._unexpected()
            found.append(Redirect((0 if op.startswith("<") else 1) if number is None else number, op, self._here))
            self._advance()
        return tuple(found)

    def _simple(self) -> Node:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[Redirect] = list(self._redirects())
        while isinstance(self._here, tuple):
            assignment = _assignment(self._here) if not words else None
            if assignment is not None:
                assignments.append(assignment)
            else:
                words.append(self._here)
            self._advance()
            redirects.extend(self._redirects())
            if self._at("(") and len(words) == 1 and not assignments and not redirects:
                return self._function(words[0])
        if not (assignments or words or redirects):
            raise self._unexpected()
        return Simple(tuple(assignments), tuple(words), tuple(redirects))

    def _function(self, word: Word) -> Node:
        name = plain(word)
        if name is None:
            raise self._unexpected()
        self._advance()
        self._expect(")")
        self._skip_newlines()
        return Function(name, self._command())


def _assignment(word: Word) -> tuple[str, Word] | None:
    """A word of the form ``name=value``."""
    first = word[0]
    if not isinstance(first, Text) or first.quoted:
        return None
    name, equals, rest = first.text.partition("=")
    if not equals or not name or name[0] not in NAME_START or not set(name) <= NAME:
        return None
    return name, ((Text(rest),) if rest else ()) + word[1:]
