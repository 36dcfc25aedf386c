"""Personalisation: text with Liquid, compiled once a campaign and rendered once a message.

Variables are a recipient's columns, by name (`{{ first_name }}`) and under `contact` (`{{ contact.first_name }}`); a
column that is itself called `contact` is only reachable as `contact.contact`. What a recipient lacks renders empty.

Templates come from whoever may write a campaign, so nothing in one may read a file, include another template or make
one message cost more than the limits below; mistakes that can be seen without a recipient are refused on compiling.

Three ways to render, fastest first, all with the result of the third (a property test holds them to it):

    constant   no markup at all
    lookups    only `{{ column }}` and `{{ column | default: "text" }}`; 0.7 µs with two columns (the engine takes 25)
    engine     everything else
"""

import functools
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from typing import Any, TextIO

from liquid import BoundTemplate, Environment, RenderContext
from liquid.ast import Node
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import (
    Filter,
    FilteredExpression,
    Path,
    PositionalArgument,
    StringLiteral,
)
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.filters.misc import default as default_filter
from liquid.builtin.output import OutputNode
from liquid.exceptions import FilterValueError, LiquidError
from liquid.expression import Expression
from liquid.output import LimitedStringIO
from liquid.stringify import to_liquid_string

from pombo.domain.content import RenderError

# The longest text Meta takes is 4,096 characters (WhatsApp), 16 KiB in UTF-8; payload strings are shorter still.
MAX_OUTPUT_BYTES = 32 * 1024
# A template is written by hand; what is longer was generated, and its parsing would hold up everybody else's.
MAX_SOURCE_CHARACTERS = 32 * 1024
# All rounds of nested loops multiplied. A message lists a basket or an order, not a catalogue.
MAX_LOOP_ROUNDS = 1000


class TemplateError(Exception):
    """The text cannot be used as a template. `position` counts characters from 0, `line` and `column` from 1."""

    def __init__(self, source: str, position: int, reason: str) -> None:
        self.position = position
        self.line = source.count("\n", 0, position) + 1
        self.column = position - (source.rfind("\n", 0, position) + 1) + 1
        self.sentence = f"Line {self.line}, column {self.column}: {reason}."
        super().__init__(self.sentence)


class CompiledText(ABC):
    """A template ready to be rendered any number of times."""

    __slots__ = ()

    is_constant = False
    least_characters = 0
    """No recipient's text is shorter than this."""

    @abstractmethod
    def render(self, variables: Mapping[str, Any]) -> str:
        """Raises RenderError."""


def compile_text(source: str) -> CompiledText:
    """Raises TemplateError: syntax, an unknown filter or tag, wrong filter arguments, a text too long."""
    if "{{" not in source and "{%" not in source:
        return _Constant(source)
    template = _parse(source)
    return _Lookups.of(template) or _Engine(template)


def variables_of(source: str) -> list[str]:
    """The recipient columns a template names, sorted; of `contact.city` that is `city`. Raises TemplateError."""
    if "{{" not in source and "{%" not in source:
        return []
    names: set[str] = set()
    for uses in _parse(source).analyze(include_partials=False).globals.values():
        for segments in (use.segments for use in uses):
            name = segments[1] if segments[0] == "contact" and len(segments) > 1 else segments[0]
            if isinstance(name, str) and (name != "contact" or len(segments) > 1):
                names.add(name)
    return sorted(names)


class _Constant(CompiledText):
    __slots__ = ("_text", "least_characters")

    is_constant = True

    def __init__(self, text: str) -> None:
        self._text = text
        self.least_characters = len(text)

    def render(self, variables: Mapping[str, Any]) -> str:
        return self._text


class _Lookups(CompiledText):
    """Literal texts with values of columns between them."""

    __slots__ = ("_pieces", "_slots", "least_characters")

    def __init__(self, pieces: list[str], slots: list[tuple[int, str, str | None]]) -> None:
        self._pieces = pieces
        self._slots = slots
        self.least_characters = sum(map(len, pieces))

    @classmethod
    def of(cls, template: BoundTemplate) -> "_Lookups | None":
        """None where the template needs the engine."""
        pieces: list[str] = []
        slots: list[tuple[int, str, str | None]] = []
        for node in template.nodes:
            if type(node) is ContentNode:
                pieces.append(node.text)
            elif type(node) is OutputNode and (lookup := _as_lookup(node.expression)):
                slots.append((len(pieces), *lookup))
                pieces.append("")
            else:
                return None
        return cls(pieces, slots)

    def render(self, variables: Mapping[str, Any]) -> str:
        pieces = self._pieces.copy()
        for index, column, default in self._slots:
            value = variables.get(column)
            if type(value) is str and value:
                pieces[index] = value
            else:
                if default is not None:
                    value = default_filter(value, default)
                pieces[index] = to_liquid_string(value, autoescape=False)
        text = "".join(pieces)
        # A character takes at most 4 bytes, so only a long text has to be measured.
        if len(text) * 4 > MAX_OUTPUT_BYTES and len(text.encode("utf-8", "surrogatepass")) > MAX_OUTPUT_BYTES:
            raise _render_error("output stream limit reached")
        return text


class _Engine(CompiledText):
    __slots__ = ("_template",)

    def __init__(self, template: BoundTemplate) -> None:
        self._template = template

    def render(self, variables: Mapping[str, Any]) -> str:
        template = self._template
        buffer = _Output(MAX_OUTPUT_BYTES)
        try:
            context = template.context_class(template, globals={**variables, "contact": variables})
            template.render_with_context(context, buffer)
        except LiquidError as error:
            raise _render_error(str(error.message)) from error
        except Exception as error:
            # Filters let Python's own errors through (a date out of range, a number too long).
            raise _render_error(str(error)) from error
        return buffer.getvalue()


def _render_error(reason: str) -> RenderError:
    return RenderError("template_failed", f"The template does not work for this recipient: {reason}.")


# ---- the engine, with our limits ----


class _Output(LimitedStringIO):
    """Leaves line ends as they are, which the library's own turns into \\n."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, newline="")


class _Context(RenderContext):
    def get_buffer(self, buf: TextIO | None = None) -> StringIO:
        return _Output(MAX_OUTPUT_BYTES - (buf.size if isinstance(buf, LimitedStringIO) else 0))


class _Template(BoundTemplate):
    context_class = _Context

    def make_partial_namespace(self, partial: bool, render_args: Mapping[str, object]) -> Mapping[str, object]:
        """Without the library's own variable `partial`, which would hide a column of that name."""
        return render_args


class _Environment(Environment):
    template_class = _Template
    loop_iteration_limit = MAX_LOOP_ROUNDS
    output_stream_limit = MAX_OUTPUT_BYTES
    # Bytes as sys.getsizeof counts them, for all that `assign` and `capture` keep.
    local_namespace_limit = 2 * MAX_OUTPUT_BYTES

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        # Other templates (there are none), and HTML tables (no message shows one).
        for tag in ("include", "render", "tablerow"):
            del self.tags[tag]
        # The two filters whose result is a product of its inputs' sizes; all others grow by sums.
        self.filters["replace"] = _bounded(self.filters["replace"], _size_of_replaced)
        self.filters["join"] = _bounded(self.filters["join"], _size_of_joined)


def _bounded(filter_: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
    @functools.wraps(filter_)
    def bounded(value: object, *arguments: object, **options: object) -> object:
        if size(value, *arguments) > MAX_OUTPUT_BYTES:
            raise FilterValueError("the result is too long", token=None)
        return filter_(value, *arguments, **options)

    return bounded


def _size_of_replaced(value: object, old: object = "", new: object = "") -> int:
    return str(value).count(str(old)) * len(str(new))


def _size_of_joined(value: object, separator: object = " ") -> int:
    return len(value) * len(str(separator)) if isinstance(value, list | tuple) else 0


_environment = _Environment()


def _parse(source: str) -> BoundTemplate:
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise TemplateError(source, MAX_SOURCE_CHARACTERS, f"a template has at most {MAX_SOURCE_CHARACTERS} characters")
    try:
        template = _environment.from_string(source)
    except LiquidError as error:
        token = error.token
        position = token.start_index if token is not None and token.start_index >= 0 else _first_wrong_output(source)
        raise TemplateError(source, position, str(error.message)) from error
    except RecursionError as error:
        raise TemplateError(source, 0, "the template is nested too deeply") from error
    context = RenderContext(template)
    for node in template.nodes:
        _check_node(source, node, context)
    return template


def _first_wrong_output(source: str) -> int:
    """Where the first `{{ … }}` begins that does not parse by itself, for errors that have no place; else the end."""
    for match in re.finditer(r"\{\{.*?\}\}", source, re.DOTALL):
        try:
            _environment.from_string(match.group())
        except LiquidError:
            return match.start()
    return len(source)


def _check_node(source: str, node: Node, context: RenderContext) -> None:
    """Refuses what the library finds out only while rendering."""
    for expression in node.expressions():
        for part in _parts(expression):
            if isinstance(part, FilteredExpression):
                # A range outside a loop is laid out in memory by filters, whatever its length.
                if isinstance(part.left, RangeLiteral):
                    raise TemplateError(source, part.left.token.start_index, "a range can only be used in a loop")
                for filter_ in part.filters or ():
                    _check_filter(source, filter_)
    for child in node.children(context, include_partials=False):
        _check_node(source, child, context)


def _parts(expression: Expression) -> Iterator[Expression]:
    yield expression
    for child in expression.children():
        yield from _parts(child)


def _check_filter(source: str, filter_: Filter) -> None:
    function = _environment.filters.get(filter_.name)
    if function is None:
        raise TemplateError(source, filter_.token.start_index, f"there is no filter named '{filter_.name}'")
    positional = [argument for argument in filter_.args if isinstance(argument, PositionalArgument)]
    named = {argument.name: argument for argument in filter_.args if not isinstance(argument, PositionalArgument)}
    given = {name: None for name in ("context", "environment") if getattr(function, f"with_{name}", False)}
    try:
        inspect.signature(function).bind(None, *positional, **named, **given)
    except TypeError as error:
        reason = f"the filter '{filter_.name}' cannot take these arguments ({error})"
        raise TemplateError(source, filter_.token.start_index, reason) from error


# ---- what needs no engine ----

# `first`, `last` and `size` mean something else than a column of that name once they follow a dot.
_PROPERTIES = frozenset({"first", "last", "size"})
# Without such a column, the engine answers these by the clock; `contact` by itself is the whole recipient.
_NOT_COLUMNS = frozenset({"now", "today", "contact"})


def _as_lookup(expression: Expression) -> tuple[str, str | None] | None:
    """Column and default, if the output is no more than that."""
    if type(expression) is not FilteredExpression or type(expression.left) is not Path:
        return None
    match expression.left.path:
        case [str(column)] if column not in _NOT_COLUMNS:
            pass
        case ["contact", str(column)] if column not in _PROPERTIES:
            pass
        case _:
            return None
    match expression.filters or []:
        case []:
            return column, None
        case [Filter(name="default", args=[PositionalArgument(value=StringLiteral(value=str(text)))])]:
            return column, text
        case _:
            return None
