import pytest
from hypothesis import given
from hypothesis import strategies as st

from pombo.domain import liquid
from pombo.domain.content import RenderError
from pombo.domain.liquid import MAX_OUTPUT_BYTES, TemplateError, compile_text, variables_of


def engine(source: str) -> liquid._Engine:
    return liquid._Engine(liquid._parse(source))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Hello", "Hello"),
        ("Hi {{ first_name }}!", "Hi Ana!"),
        ("Hi {{ contact.first_name }}!", "Hi Ana!"),
        ('Hi {{ contact.first_name | default: "there" }}!', "Hi Ana!"),
        ('Hi {{ last_name | default: "there" }}!', "Hi there!"),
        ('Hi {{ title | default: "there" }}!', "Hi there!"),
        ("Hi {{ last_name }}!", "Hi !"),
        ("{{ n }} {{ yes }} {{ nothing }}.", "3 true ."),
        ("{{ n | default: 'none' }}", "3"),
        ("  {{- first_name -}}  !", "Ana!"),
        ("{{ first_name | upcase }}", "ANA"),
        ("{% if vip %}Dear{% else %}Hi{% endif %} {{ first_name }}", "Hi Ana"),
        ("{% for x in basket %}{{ x }},{% endfor %}", "a,b,"),
        ("{{ basket.size }} {{ contact.basket.first }}", "2 a"),
        ("{{ contact['first_name'] }}", "Ana"),
        ("{% raw %}{{ first_name }}{% endraw %}", "{{ first_name }}"),
        ("one\r\n{{ first_name | upcase }}\r\n", "one\r\nANA\r\n"),
        ("{% if true %}\r\n{% endif %}{% capture x %}a\r\nb{% endcapture %}{{ x }}", "a\r\nb"),
        ("{{ partial }}{{ partial | upcase }}", "mineMINE"),
        ("{{ today }} {{ now | upcase }}", "Monday SOON"),
    ],
)
def test_a_template_renders_with_the_recipients_columns(source: str, text: str) -> None:
    variables = {
        "first_name": "Ana",
        "title": "",
        "n": 3,
        "yes": True,
        "nothing": None,
        "basket": ["a", "b"],
        "partial": "mine",
        "today": "Monday",
        "now": "soon",
    }
    assert compile_text(source).render(variables) == text


def test_a_column_named_contact_is_reached_through_contact() -> None:
    assert compile_text("{{ contact.contact }}").render({"contact": "Ana"}) == "Ana"


def test_text_without_markup_is_constant() -> None:
    assert compile_text("50 % off, {today} only }}").is_constant
    assert not compile_text("{{ x }}").is_constant


def test_the_least_length_counts_what_every_recipient_gets() -> None:
    assert compile_text("Hello").least_characters == 5
    assert compile_text("Hello {{ first_name }}!").least_characters == 7
    assert compile_text("{% if x %}Hello{% endif %}").least_characters == 0


@pytest.mark.parametrize(
    ("source", "line", "column", "reason"),
    [
        ("{{ first_name", 1, 1, "expected '}}'"),
        ("Hi {{ }}", 1, 4, "expected a primitive expression"),
        ("Hi {{ first_name | }}", 1, 4, "expected word"),
        ("one\ntwo {{ a b }}", 2, 10, "expected end of expression"),
        ("one\ntwo {% if a %}", 2, 15, "expected tag endif"),
        ("{{ a | shout }}", 1, 8, "there is no filter named 'shout'"),
        ("{% if x %}{{ y | shout }}{% endif %}", 1, 18, "there is no filter named 'shout'"),
        ("{% if x %}{% assign z = y | shout %}{% endif %}", 1, 29, "there is no filter named 'shout'"),
        ("{{ a | default: 'x', 'y', 'z' }}", 1, 8, "the filter 'default' cannot take these arguments"),
        ("{{ a | truncate: 5, '…', 1 }}", 1, 8, "the filter 'truncate' cannot take these arguments"),
        ("{% include 'x' %}", 1, 4, "unexpected tag 'include'"),
        ("{% render 'x' %}", 1, 4, "unexpected tag 'render'"),
        ("{{ (1..999999999) | join }}", 1, 4, "a range can only be used in a loop"),
        ("{% assign x = (1..999999999) %}", 1, 15, "a range can only be used in a loop"),
        ("{{ x }}" * 10_000, 1, liquid.MAX_SOURCE_CHARACTERS + 1, "a template has at most"),
    ],
)
def test_a_mistake_is_refused_with_its_place(source: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_text(source)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert caught.value.sentence.startswith(f"Line {line}, column {column}: {reason}")
    with pytest.raises(TemplateError):
        variables_of(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in (1..1001) %}{% endfor %}",
        "{% for x in (1..100) %}{% for y in (1..100) %}{% endfor %}{% endfor %}",
        "{% for x in (1..900) %}{{ long }}{% endfor %}",
        "{{ long }}" * 40,
        "{{ long }}{{ long | upcase }}" * 20,
        "{% for x in (1..900) %}{% assign y = y | append: long %}{% endfor %}",
        "{{ long | replace: '', long }}",
        "{{ long | split: '' | join: long }}",
        "{{ 1 | divided_by: 0 }}",
        "{{ '99999999999999999999' | date: '%Y' }}",
        "{% break %}",
    ],
)
def test_what_goes_beyond_the_limits_fails_for_this_message(source: str) -> None:
    with pytest.raises(RenderError) as caught:
        compile_text(source).render({"long": "x" * 1000})
    assert caught.value.code == "template_failed"


def test_the_output_limit_counts_bytes() -> None:
    template = compile_text("{{ text }}")
    assert template.render({"text": "x" * MAX_OUTPUT_BYTES}) == "x" * MAX_OUTPUT_BYTES
    with pytest.raises(RenderError):
        template.render({"text": "é" * (MAX_OUTPUT_BYTES // 2 + 1)})


def test_replace_and_join_work_within_the_limits() -> None:
    assert compile_text("{{ a | replace: 'x', 'yy' }}").render({"a": "xax"}) == "yyayy"
    assert compile_text("{{ a | join: ' and ' }}").render({"a": ["x", "y"]}) == "x and y"


def test_the_variables_of_a_template_are_the_columns_it_names() -> None:
    source = "{{ a }} {{ contact.b }} {% if c.d %}{{ e | append: f }}{% endif %}{% assign g = h %}{{ g }}{{ contact }}"
    assert variables_of(source) == ["a", "b", "c", "e", "f", "h"]
    assert variables_of("nothing") == []


COLUMNS = ["first_name", "city", "x-y", "size", "first", "now", "partial", "contact", "none_such"]

# Spelled out, for hypothesis takes seconds to draw up a list of all characters.
CHARACTERS = st.sampled_from("abYZ09 _-.,:;!?<>&\"'\\/%{}é€😀\r\n\t\x00\u2028")
literals = st.text(st.sampled_from("ab é\r\n\t{}'\"|%😀"), max_size=12).filter(
    lambda text: "{{" not in text and "{%" not in text
)
paths = st.one_of(
    st.sampled_from(COLUMNS),
    st.sampled_from(COLUMNS).map("contact.{}".format),
    st.sampled_from(["contact['city']", "first_name.size", "city.first", "contact.city.x"]),
)
filters = st.sampled_from(["", " | default: 'there'", ' | default: ""', " | default", " | default: city", " | upcase"])
outputs = st.builds(
    "{{{{{}{}{}{}}}}}".format,
    st.sampled_from(["", "-", " "]),
    paths.map(" {}".format),
    filters,
    st.sampled_from([" ", " -"]),
)
values = st.one_of(
    st.text(CHARACTERS, max_size=10),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.lists(st.text(CHARACTERS, max_size=3), max_size=3),
    st.dictionaries(st.text(CHARACTERS, max_size=3), st.text(CHARACTERS, max_size=3), max_size=2),
)


@given(
    source=st.lists(st.one_of(literals, outputs), max_size=6).map("".join),
    variables=st.dictionaries(st.sampled_from(COLUMNS[:-1]), values),
)
def test_every_way_of_rendering_gives_the_engines_result(source: str, variables: dict[str, object]) -> None:
    try:
        compiled = compile_text(source)
    except TemplateError:
        return
    if "now" not in variables and "now" in source:
        return  # the engine's clock
    assert compiled.render(variables) == engine(source).render(variables)


def test_plain_outputs_do_without_the_engine() -> None:
    plain = ["{{ a }}", "x {{- contact.a }} y", '{{ a | default: "b" }}', "{{ a }}{{ b }}"]
    others = [
        "{{ a | upcase }}",
        "{{ a.b }}",
        "{{ contact }}",
        "{{ contact.size }}",
        "{{ a | default: b }}",
        "{{ now }}",
    ]
    assert [type(compile_text(source)) for source in plain] == [liquid._Lookups] * len(plain)
    assert [type(compile_text(source)) for source in others] == [liquid._Engine] * len(others)
