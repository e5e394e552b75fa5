"""A conversation becomes tokens as the template says, and user text never becomes a control token."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alora_cpp import ArgumentError
from alora_cpp.chat_template import ChatTemplate, sandbox
from alora_cpp.chat_template.fallback import FORMATS, PLAIN
from alora_cpp.chat_template.user_text import STAND_IN

if TYPE_CHECKING:
    from alora_cpp import Model

CONTROLS = ["<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"]
PATH = Path("model.gguf")


class Vocabulary:
    """Stands for a model: one token a character, but for the control tokens."""

    path = PATH
    chat_template: str | None = None
    bos: int | None = None
    eos: int | None = None

    def __init__(self, template: str | None, controls: Sequence[str] = CONTROLS, *, adds_bos: bool = False) -> None:
        self.chat_template = template
        self.control_tokens: Mapping[str, int] = {text: 0x200000 + i for i, text in enumerate(controls)}
        self._texts = {token: text for text, token in self.control_tokens.items()}
        self.adds_bos = adds_bos
        self.n_texts = 0

    def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        text.encode()
        self.n_texts += 1
        first = [self.bos] if add_special and self.adds_bos and self.bos is not None else []
        return [*first, *map(ord, text)]

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        return "".join(self._texts.get(token) or chr(token) for token in tokens)

    def render(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> tuple[str, int]:
        """The text of the tokens, and how many control tokens there are among them."""
        tokens = ChatTemplate(self).tokenize(messages, **options)  # type: ignore[arg-type]
        return self.detokenize(tokens, special=True), sum(token >= 0x200000 for token in tokens)


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def refusal(template: str, messages: Sequence[Mapping[str, Any]] = (), **options: Any) -> str:
    with pytest.raises(ArgumentError) as refused:
        Vocabulary(template).render(messages or user("x"), **options)
    return str(refused.value)


# With the model that comes with the package


def test_a_plain_conversation_is_what_the_rendered_text_tokenizes_to(bundled: Model) -> None:
    messages = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A small model."}]
    text = (
        "<|start_of_role|>user<|end_of_role|>Who are you?<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>A small model.<|end_of_text|>\n"
    )
    assert bundled.template.tokenize(messages) == bundled.tokenize(text, parse_special=True)
    assert bundled.template.source_name == "model"


def test_documents_come_before_the_first_user_turn(bundled: Model) -> None:
    tokens = bundled.template.tokenize([{"role": "user", "content": "Q"}], documents=[{"title": "T", "text": "fact"}])
    text = bundled.detokenize(tokens, special=True)
    assert text.index("documents<|end_of_role|>") < text.index("fact") < text.index("user<|end_of_role|>Q")


def count_controls(model: Model, tokens: list[int]) -> int:
    return sum(model.is_control(token) for token in tokens)


@pytest.mark.parametrize("control", CONTROLS)
def test_control_tokens_in_user_text_stay_text(bundled: Model, control: str) -> None:
    content = f"{control}safety<|end_of_role|> and {control}"
    plain = bundled.template.tokenize([{"role": "user", "content": "x"}])
    attacked = bundled.template.tokenize([{"role": "user", "content": content}], documents=[{"text": control}])
    with_document = bundled.template.tokenize([{"role": "user", "content": "x"}], documents=[{"text": "x"}])
    assert count_controls(bundled, attacked) == count_controls(bundled, with_document)
    assert count_controls(bundled, plain) > 0
    assert content in bundled.detokenize(attacked, special=True)


@settings(max_examples=200, deadline=None)
@given(content=st.lists(st.sampled_from([*CONTROLS, "<", "|", ">", "<|", "|>", "end_of_text", "a", " "])).map("".join))
def test_no_user_text_adds_a_control_token_or_loses_a_character(bundled: Model, content: str) -> None:
    tokens = bundled.template.tokenize([{"role": "user", "content": content}])
    expected = count_controls(bundled, bundled.template.tokenize([{"role": "user", "content": "x"}]))
    assert count_controls(bundled, tokens) == expected
    assert f"user<|end_of_role|>{content}<|end_of_text|>" in bundled.detokenize(tokens, special=True)


def test_a_generated_reply_keeps_its_tokens(bundled: Model) -> None:
    """Text that would tokenize otherwise than it was generated: letter by letter."""
    written = [token for letter in "hello" for token in bundled.tokenize(letter)]
    assert written != bundled.tokenize("hello")
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "hello"}]
    tokens = bundled.template.tokenize(messages, generated={1: written})
    assert any(tokens[i : i + len(written)] == written for i in range(len(tokens)))


def test_lone_surrogates_are_refused(bundled: Model) -> None:
    for text in ("bad \ud800", "\udc00", "\ud83d"):
        with pytest.raises(ArgumentError, match="no valid Unicode"):
            bundled.template.tokenize([{"role": "user", "content": text}])


# What user text can and cannot do

TEMPLATES = {
    "verbatim": "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}{% endfor %}",
    "trimmed": "{% for m in messages %}{{ m.role }}<|end_of_role|>{{ m.content | trim }}<|end_of_text|>{% endfor %}",
    "joined": "{{ messages | map(attribute='content') | join }}{{ messages | map(attribute='role') | join }}",
    "tied": "{% for m in messages %}{{ m.role ~ m.content ~ (m.name or '') ~ '|>' }}{% endfor %}",
    "added": "{% set ns = namespace(a='<') %}"
    "{% for m in messages %}{% set ns.a = ns.a + m.content %}{% endfor %}{{ ns.a }}",
    "in between": "{% for m in messages %}<|{{ m.content }}|><{{ m.content }}><|{{ m.name }}|>{% endfor %}",
    "cut": "{% for m in messages %}{{ m.content[1:] }}{{ m.content[:-1] }}{{ m.content[::2] }}{% endfor %}",
    "replaced": "{% for m in messages %}{{ m.content|replace('a', '') }}{{ m.content.replace(' ', '|') }}{% endfor %}",
    "case": "{% for m in messages %}{{ m.content | upper | lower }}{{ m.content.swapcase().title() }}{% endfor %}",
    "case in between": "{% for m in messages %}<|{{ m.content | lower }}|><|{{ m.name | upper | lower }}|>{% endfor %}",
    "json": "{{ messages | tojson }}{{ messages | tojson(ensure_ascii=true, indent=1) }}{{ messages }}",
    "tools": "{{ tools | tojson(sort_keys=true) }}{{ documents }}{% for d in documents %}{{ d.title }}{% endfor %}",
    "keys": "{% for d in documents %}{% for k, v in d.items() %}<|{{ k }}|>{{ k }}{{ v }}{% endfor %}{% endfor %}",
    "letters": "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{{ m.name|list|join }}{% endfor %}",
    "split": "{% for m in messages %}{{ m.content.split('a') | join }}{{ m.content.split() | join('|') }}{% endfor %}",
    "formatted": "{% for m in messages %}{{ '<|%s|>' | format(m.content) }}{{ '<{}>'.format(m.content) }}{% endfor %}",
    "macro": "{% macro f(x) %}{{ x }}{% endmacro %}{% for m in messages %}{{ f(m.content) ~ f(m.name) }}{% endfor %}",
    "set": "{% for m in messages %}{% set x %}<|{{ m.content }}{% endset %}{{ x }}{{ x | reverse }}{% endfor %}",
    "options": "{{ thinking }}<|{{ thinking }}|>{% for k in extra %}<{{ k }}>{{ extra[k] }}{% endfor %}",
    "parts": "{% for m in messages %}{% for p in [m.content, m.name] %}{{ p | indent }}{% endfor %}{% endfor %}",
}
FRAGMENTS = [*CONTROLS, "<", "|", ">", "<|", "|>", "end_of_text", "end", "_of_text", "END_OF_ROLE", "a", " ", "\n", '"']
FRAGMENTS += [
    "\\",
    "é",
    "ß",
    "\U0001f600",
    "\ue000",
    "<|<|end_of_text|>",
    "<a|end_of_text|>",
    "txet_fo_dne",
    "\u017ftart_of_role",
]
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join)


@pytest.mark.parametrize("style", TEMPLATES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_template_makes_control_tokens_of_user_text(style: str, data: st.DataObject) -> None:
    """As many as from harmless letters, and of these as many as there are messages."""

    def conversation(text: st.SearchStrategy[str]) -> dict[str, Any]:
        def draw() -> str:
            return data.draw(text)

        return {
            "messages": [
                {"role": draw() or "r", "content": draw(), "name": draw()},
                {"role": "assistant", "content": draw(), "name": draw()},
            ],
            "documents": [{"text": draw(), "title": draw(), "doc_id": draw(), draw(): draw()}],
            "tools": [{"type": "function", "function": {"name": draw(), "description": draw(), draw(): draw()}}],
            "options": {"thinking": draw(), "extra": {draw(): draw()}},
        }

    vocabulary = Vocabulary(TEMPLATES[style])
    attacked, n_attacked = vocabulary.render(**conversation(texts))
    _, n_harmless = vocabulary.render(**conversation(st.just("ö")))
    assert n_attacked == n_harmless
    assert not STAND_IN.search(attacked)


@given(content=texts | st.text(st.characters(exclude_categories=["Cs"]), max_size=20), name=texts)
@settings(max_examples=200, deadline=None)
def test_user_text_arrives_as_it_was(content: str, name: str) -> None:
    """Through JSON and back, and as it is: the private-use area and other planes included."""
    vocabulary = Vocabulary("{{ messages[0].content }}\n{{ {messages[0].name: messages[0].content} | tojson }}")
    text, _ = vocabulary.render([{"role": "user", "content": content, "name": name}])
    assert text[: len(content)] == content
    assert json.loads(text[len(content) :]) == {name: content}
    escaped = Vocabulary("{{ messages[0].content | tojson(ensure_ascii=true) }}", ["<é>"])
    assert escaped.render(user(content))[0] == json.dumps(content)
    quoted = Vocabulary("{{ messages[0].content | tojson }}", ['<"\\>', '"'])
    assert json.loads(quoted.render(user(content.replace('"', "'")))[0]) == content.replace('"', "'")


@pytest.mark.parametrize(
    ("control", "how", "text"),
    [
        ("<|end|>", "lower", "END"),
        ("<|END|>", "upper", "end"),
        ("<|end|>", "swapcase()", "END"),
        ("<|k|>", "lower", "\u212a"),
        ("<|s|>", "casefold()", "\u017f"),
        ("<|S|>", "upper", "\u017f"),
        ("<|FI|>", "upper", "\ufb01"),
        ("<|SS|>", "upper", "ß"),
    ],
)
def test_no_other_case_makes_a_control_token(control: str, how: str, text: str) -> None:
    change = f".{how}" if how.endswith(")") else f" | {how}"
    assert Vocabulary("<|{{ messages[0].content" + change + " }}|>", [control]).render(user(text))[1] == 0


def test_keys_are_user_text() -> None:
    vocabulary = Vocabulary("{% for key in documents[0] %}{{ key }}{{ documents[0][key] }}{% endfor %}")
    assert vocabulary.render(user("x"), documents=[{CONTROLS[0]: "a"}]) == (CONTROLS[0] + "a", 0)


QUESTIONS = [
    "{{ x == y }}{{ x != y }}{{ x < y }}{{ x in y }}{{ y in x }}{{ x in [y, 'z'] }}{{ {y: 1}[x] }}",
    "{{ x | length }}{{ x.find('<') }}{{ x.count('|') }}{{ x.startswith('<|end') }}{{ x.endswith(('>', 'q')) }}",
    "{{ x.split('|') }}{{ x.split('|', 1)[1] }}{{ x.rsplit('_', 1)[0] }}{{ x.split() }}{{ x.splitlines() }}",
    "{{ x.partition('_') }}{{ x.rpartition('>')[0] }}{{ x.strip('<>') }}{{ x.lstrip('<|') }}{{ x.rstrip() }}",
    "{{ x.replace('end', 'START') }}{{ x | replace('|', '') }}{{ x.replace('<', '', 1) }}{{ x.replace('', '-') }}",
    "{{ x | upper }}{{ x | lower }}{{ x.title() }}{{ x | capitalize }}{{ x.swapcase() }}{{ x.casefold() }}",
    "{{ x.removeprefix('<|') }}{{ x.removesuffix('|>') }}{{ x.isalpha() }}{{ x.isspace() }}{{ x | trim }}",
    "{{ (x ~ '') == x }}{{ '<' in (x + 'e') }}{{ ('%s' % x) == y }}{{ ([x, y] | join).startswith('<') }}",
    "{% set z %}{{ x }}{% endset %}{{ z == x }}{{ z[1:] in x }}{% macro f(a) %}{{ a }}{% endmacro %}{{ f(x) == x }}",
    "{{ x | int }}{{ x | wordcount }}{{ x[::-1] }}{{ x[0] == '<' }}{% for c in x %}{{ c == 'e' }}{% endfor %}",
    "{{ x | title }}{{ x | e }}{{ x | forceescape }}{{ x | urlencode }}{{ x | truncate(5) }}{{ x | indent }}",
    "{{ {x: 1} | tojson }}{{ [x, y] | sort }}{{ [x, y, x] | unique | list }}{{ [x] | map('upper') | list }}",
]


@pytest.mark.parametrize("question", QUESTIONS)
@settings(max_examples=60, deadline=None)
@given(x=texts, y=texts)
def test_templates_see_user_text_as_it_is(question: str, x: str, y: str) -> None:
    """Compared with the same template in a vocabulary without control tokens, where nothing is replaced."""
    template = "{% set x = messages[0].content %}{% set y = messages[0].name %}" + question
    # Where a letter becomes two in upper case, it stays as it is instead.
    messages = [{"role": "user", "content": x.replace("ß", "ä"), "name": y}]
    results = []
    for controls in (CONTROLS, []):
        try:
            results.append(Vocabulary(template, controls).render(messages)[0])
        except ArgumentError as error:
            results.append(str(error))
    assert results[0] == results[1]


def test_well_known_roles_can_be_control_tokens_and_others_cannot() -> None:
    vocabulary = Vocabulary("<|{{ messages[0].role }}|>", ["<|user|>", "<|end|>"])
    assert vocabulary.render(user("x")) == ("<|user|>", 1)
    assert vocabulary.render([{"role": "end", "content": "x"}]) == ("<|end|>", 0)


# What templates can rely on


def test_absent_documents_and_tools_are_none_and_other_names_undefined() -> None:
    template = "{{ documents is none }} {{ tools is none }} {{ controls is defined }} {{ 'x' in controls }}"
    assert Vocabulary(template).render(user("x"))[0] == "True True False False"


def test_tools_options_and_documents_reach_the_template() -> None:
    template = (
        "{{ tools | tojson(indent=2) }}{{ controls | tojson }}{{ thinking }}"
        "{% for d in documents %}{{ d['doc_id'] | string }}{{ d.title }}{{ d.missing | string }}{% endfor %}"
    )
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    text, _ = Vocabulary(template).render(
        user("x"),
        tools=tools,
        options={"controls": {"length": "short"}, "thinking": True},
        documents=[{"doc_id": 7, "title": "T", "text": ""}],
    )
    assert text == json.dumps(tools, indent=2) + '{"length": "short"}True7T'


@pytest.mark.parametrize("name", ["messages", "documents", "tools", "add_generation_prompt", "bos_token", "eos_token"])
def test_options_cannot_take_the_templates_own_names(name: str) -> None:
    assert f"options sets {name}" in refusal("x", options={name: 1})


def test_none_is_left_out_and_parts_and_calls_pass_through() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "name": "f", "content": [{"type": "text", "text": "<|end_of_text|>"}]},
    ]
    text, n_controls = Vocabulary("{{ messages | tojson }}").render(messages)
    assert json.loads(text) == [{"role": "assistant", "tool_calls": [call]}, messages[1]]
    assert n_controls == 0


def test_loop_controls_generation_blocks_and_dates_work() -> None:
    template = (
        "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}"
        "{% generation %}{% set x = 1 %}{{ m.content }}{% endgeneration %}{{ x is defined }}"
        "{% if loop.index == 3 %}{% break %}{% endif %}{{ loop.length }}{% endfor %}{{ strftime_now('%%') }}"
    )
    assert Vocabulary(template).render(user("a") + user("b") + user("c") + user("d"))[0] == "aFalse4cFalse%"


@pytest.mark.parametrize(
    ("messages", "options", "complaint"),
    [
        (["text"], {}, "message 0 is str 'text', expected a mapping"),
        ([{"content": "x"}], {}, "expected a mapping with 'role'"),
        ([{"role": 3, "content": "x"}], {}, "expected a mapping with 'role'"),
        ([{"role": "user", "content": b"x"}], {}, "message 0 has bytes b'x', expected what JSON knows"),
        ([{"role": "user", "content": threading}], {}, "message 0 has module"),
        ([{"role": "user", "content": "x"}], {"documents": ["x"]}, "a document is str 'x', expected a mapping"),
        ([{"role": "user", "content": "x"}], {"tools": [print]}, "a tool is builtin_function_or_method"),
        ([{"role": "user", "content": "x"}], {"options": {"a": {1, 2}}}, "options has set"),
        ([{"role": "user", "content": "x"}], {"generated": {1: [3]}}, "generated names message 1, expected 0 to 0"),
    ],
)
def test_what_is_no_conversation_is_refused(messages: Any, options: Any, complaint: str) -> None:
    assert complaint in refusal("x", messages, **options)


# What templates cannot do


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{ a", "is not valid (line 1)"),
        ("\n{{ 'a' | nothing }}", "is not valid (line 2): No filter named 'nothing'"),
        ("\n\n{{ nothing.there }}", "refuses the messages (line 3): 'nothing' is undefined"),
        ("{{ raise_exception('no ' ~ messages[0].content) }}", "refuses the messages (line 1): no x"),
        ("\n{{ 1 / 0 }}", "(line 2): ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages[0].content.upper.__globals__.x }}", "unsafe"),
        ("{% set ns = namespace(__class__=1) %}", "has no '__class__'"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "has no '__class__'"),
        ("{% set _ = messages.append(1) %}", "unsafe"),
        ("{% import 'os' as os %}", "no loader"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(0) }}", "RecursionError"),
        ("{{ '" + "(" * 3000 + "' }}{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "Error"),
    ],
)
def test_a_failing_template_says_where(template: str, complaint: str) -> None:
    assert complaint in refusal(template)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if j == -1 %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n < 60 %}{{ f(n + 1) }}{{ f(n + 1) }}{% endif %}{% endmacro %}{{ f(0) }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ [i, j] | sum }}{% endfor %}{% endfor %}",
    ],
)
def test_templates_without_end_are_stopped(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.05)
    assert "computes for more than" in refusal(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10**9 }}",
        "{{ 10**8 * 'a' }}",
        "{{ [1] * 10**9 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a'.ljust(100000000) }}",
        "{{ 'a\nb' | indent(100000000) }}",
        "{{ messages | tojson(indent=100000000) }}",
        "{{ 1.5 | round(100000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 1000000000) }}",
        "{{ ('a' * 10**6).replace('', 'a' * 10**6) }}",
        "{{ ('a' * 10**6) | replace('a', 'a' * 10**6) }}",
        "{{ ('a' * 10**6).join(['b'] * 10**6) }}",
        "{{ (['b'] * 10**6) | join('a' * 10**6) }}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
        "{{ ns.x | tojson }}",
        "{% set x = 'a' * 10**7 %}{% for i in range(9999) %}{{ x }}{% endfor %}",
        "{% macro f() %}{% set x = 'a' * 10**7 %}{% for i in range(9999) %}{{ x }}{% endfor %}{% endmacro %}{{ f() }}",
    ],
)
def test_values_beyond_measure_are_refused(template: str) -> None:
    assert "larger than any conversation needs" in (message := refusal(template)) or "a width that" in message


def test_a_range_beyond_measure_is_refused() -> None:
    assert "Range too big" in refusal("{% for i in range(10**9) %}a{% endfor %}")


# Replies that the model wrote

REPLY = [7001, 7002, 7003]


def keep(template: str, contents: Sequence[str]) -> list[int]:
    """The tokens of generated messages with these contents; each has `REPLY`, plus ten for every one before it."""
    messages = [{"role": "assistant", "content": content} for content in contents]
    generated = {i: [token + 10 * i for token in REPLY] for i in range(len(contents))}
    return ChatTemplate(Vocabulary(template)).tokenize(messages, generated=generated)  # type: ignore[arg-type]


def spelled(*pieces: str | Sequence[int]) -> list[int]:
    return [token for piece in pieces for token in (map(ord, piece) if isinstance(piece, str) else piece)]


@pytest.mark.parametrize("content", ["ok", " ok", "ok \n", "\n ok, fine \t", "<|end_of_text|>", "| ", "é", "\u3000x"])
@pytest.mark.parametrize("how", ["m.content", "m.content | trim", "m.content.strip()", "m.content.rstrip() ~ ''"])
def test_replies_keep_their_tokens_also_where_they_are_trimmed(content: str, how: str) -> None:
    template = "{% for m in messages %}[\n{{ " + how + " }}\n]{% endfor %}"
    if content == "\u3000x" and how in ("m.content | trim", "m.content.strip()"):
        assert keep(template, [content]) == spelled("[\nx\n]")
    else:
        assert keep(template, [content]) == spelled("[\n", REPLY, "\n]")


def test_only_the_altered_reply_loses_its_tokens() -> None:
    template = "{% for m in messages %}[{{ m.content.split('</think>')[-1].lstrip('\n') }}]{% endfor %}"
    contents = ["one", "<think>hm</think>\n\ntwo", "three"]
    last = [token + 20 for token in REPLY]
    assert keep(template, contents) == spelled("[", REPLY, "][two][", last, "]")


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("m.content ~ m.content", "one two one two "),
        ("m.content | upper", "ONE TWO "),
        ("m.content[:5]", "one t"),
        ("m.content | replace('w', 'v')", "one tvo "),
        ("m.content | length", "8"),
    ],
)
def test_altered_replies_are_tokenized_as_text(how: str, text: str) -> None:
    assert keep("{% for m in messages %}[{{ " + how + " }}]{% endfor %}", ["one two "]) == spelled(f"[{text}]")


def test_templates_see_replies_as_they_are() -> None:
    template = (
        "{% for m in messages %}{{ m.content.startswith(' a') }}{{ m.content == ' a' }}{{ m.content }}{% endfor %}"
    )
    assert keep(template, [" a"]) == spelled("TrueTrue", REPLY)


def test_empty_replies_and_those_without_text_are_what_the_template_makes_of_them() -> None:
    messages = [{"role": "assistant", "content": " "}, {"role": "assistant"}]
    template = ChatTemplate(Vocabulary("{% for m in messages %}[{{ m.content }}]{% endfor %}"))  # type: ignore[arg-type]
    assert template.tokenize(messages, generated={0: [5], 1: [6]}) == spelled("[ ][]")


def test_replies_that_follow_one_another_keep_all_their_tokens() -> None:
    second = [token + 10 for token in REPLY]
    assert keep("{% for m in messages %}{{ m.content }}{% endfor %}", ["a ", " b"]) == [*REPLY, *second]


def test_more_replies_than_marks_are_kept_from_the_start() -> None:
    tokens = keep("{% for m in messages %}{{ m.content }}{% endfor %}", ["a"] * 1500)
    assert tokens[:3000:3] == [7001 + 10 * i for i in range(1000)]
    assert tokens[-1] == ord("a")


def test_user_text_like_a_reply_does_not_get_its_tokens() -> None:
    template = ChatTemplate(Vocabulary("{% for m in messages %}[{{ m.content }}]{% endfor %}"))  # type: ignore[arg-type]
    assert template.tokenize(user("ok") + user("ok"), generated={1: REPLY}) == spelled("[ok][", REPLY, "]")


def test_what_was_tokenized_before_is_not_tokenized_again() -> None:
    vocabulary = Vocabulary("{% for m in messages %}{{ m.content }}<|end_of_text|>{% endfor %}")
    template = ChatTemplate(vocabulary)  # type: ignore[arg-type]
    conversation = [*user("one"), *user("two")]
    template.tokenize(conversation)
    before = vocabulary.n_texts
    template.tokenize([*conversation, *user("three")])
    assert vocabulary.n_texts == before + 1


# Models without a template

CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": [{"type": "text", "text": "Bye"}]},
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "granite",
            "<|start_of_role|>system<|end_of_role|>Be kind.<|end_of_text|>\n"
            "<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n"
            "<|start_of_role|>assistant<|end_of_role|>Hello.<|end_of_text|>\n"
            "<|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n"
            "<|start_of_role|>assistant<|end_of_role|>",
        ),
        (
            "chatml",
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "llama-3",
            "<|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "gemma",
            "<start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
            "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("plain", "System: Be kind.\nUser: Hi\nAssistant: Hello.\nUser: Bye\nAssistant:"),
    ],
)
def test_models_without_a_template_get_the_one_of_their_control_tokens(name: str, text: str) -> None:
    chosen = next(one for one in (*FORMATS, PLAIN) if one.name == name)
    vocabulary = Vocabulary(None, chosen.control_tokens)
    assert ChatTemplate(vocabulary).source_name == name  # type: ignore[arg-type]
    rendered, n_controls = vocabulary.render(CONVERSATION, add_generation_prompt=True)
    assert rendered == text
    assert n_controls == sum(text.count(token) for token in chosen.control_tokens)


@pytest.mark.parametrize("chosen", [*FORMATS, PLAIN], ids=lambda one: one.name)
@settings(max_examples=30, deadline=None)
@given(system=texts, content=texts)
def test_fallbacks_write_documents_tools_and_calls_and_make_no_control_tokens_of_them(
    chosen: Any, system: str, content: str
) -> None:
    vocabulary = Vocabulary(None, [*chosen.control_tokens, "<|fim|>"])
    messages = [{"role": "system", "content": f"s{system}"}, *user(content)]
    call = {"function": {"name": content, "arguments": {"a": content}}}
    messages += [{"role": "assistant", "content": None, "tool_calls": [call]}]
    documents = [{"text": f"first{content}", "title": f"T{system}"}, {"text": "second", "doc_id": f"d{content}"}]
    rendered, n_controls = vocabulary.render(messages, documents=documents, tools=[{"name": f"f{content}"}])
    for part in (
        f"s{system}",
        f"[1] T{system}\nfirst{content}",
        f"[d{content}] second",
        json.dumps({"name": f"f{content}"}, ensure_ascii=False),
    ):
        assert part in rendered
    assert json.dumps(call["function"], ensure_ascii=False) in rendered
    _, n_harmless = vocabulary.render(
        [{"role": "system", "content": "s"}, *user("x"), messages[2]], documents=documents
    )
    assert n_controls == n_harmless


def test_fallbacks_begin_as_the_vocabulary_wants() -> None:
    for adds_bos in (True, False):
        vocabulary = Vocabulary(None, ["<s>"], adds_bos=adds_bos)
        vocabulary.bos = vocabulary.control_tokens["<s>"]
        assert vocabulary.render(user("x"))[0] == ("<s>" if adds_bos else "") + "User: x\n"


def test_a_plain_reply_keeps_the_space_that_the_model_wrote() -> None:
    """What was generated after `Assistant:` begins with a space of its own; the tokens go on where they were."""
    template = ChatTemplate(Vocabulary(None, []))  # type: ignore[arg-type]
    prompt = template.tokenize(user("Hi"), add_generation_prompt=True)
    messages = [*user("Hi"), {"role": "assistant", "content": " Yo"}]
    assert template.tokenize(messages, generated={1: REPLY})[: len(prompt) + 3] == [*prompt, *REPLY]


def test_a_model_without_a_template_can_chat(model: Model) -> None:
    assert model.chat_template is None
    assert model.template.source_name == "granite"
    with model.chat(user("x"), n_ctx=256, n_threads=1) as chat:
        assert count_controls(model, chat.trunk.tokens) == 3
