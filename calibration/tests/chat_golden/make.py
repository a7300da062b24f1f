#!/usr/bin/env python3
"""Writes cases.json: chat templates and what transformers makes of them.

The templates are written for this test; together they use what the templates of
published models use.  Needs transformers 5 and jinja2.

usage: make.py > cases.json
"""
import json, sys
import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

DIALOGUE = [
    {"role": "system", "content": "Answer briefly. "},
    {"role": "user", "content": " What's 2 < 3 & \"why\"?\n"},
    {"role": "assistant", "content": "<think>\nnumbers\n</think>\n\nBecause é, 수, 🙂."},
    {"role": "user", "content": "한국어로?"},
    {"role": "assistant", "content": "네."},
]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}]},
    {"role": "assistant", "content": "ok", "tool_calls": [
        {"type": "function", "function": {"name": "f", "arguments": {"z": [1, 2.5, True, None], "a": {"b": "q\"<é"}}}}]},
    {"role": "tool", "content": {"zero": 0, "list": [], "map": {}}},
]

TEMPLATES = {
    "header_tags": """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system<|end|>\\n\\n" }}
{%- if tools is not none %}{{- "Tools: " ~ tools }}{% endif %}
{%- if not date_string is defined %}{% set date_string = "26 Jul 2024" %}{% endif %}
{{- "Today: " + date_string + "\\n" }}{{- system_message }}{{- "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '<|end|>\\n\\n' + (message['content'] | trim if message.content is string else '?') + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>' }}
{%- endif %}
""",
    "chatml": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nDefault.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + ('' if loop.last else '\\n')}}{% endfor %}""",
    "instruct_alternating": """{{ bos_token }}{% set ns = namespace(index=0, system='') %}
{% for message in messages %}
    {% if message['role'] == 'system' %}
        {% set ns.system = message['content'].strip() + '\\n\\n' %}
        {% continue %}
    {% endif %}
    {% if (message['role'] == 'user') != (ns.index % 2 == 0) %}
        {{ raise_exception('Roles must alternate: ' ~ message.role) }}
    {% endif %}
    {% set ns.index = ns.index + 1 %}
    {% if message['role'] == 'user' %}
[INST] {{ ns.system }}{{ message['content'].strip() }} [/INST]
        {% set ns.system = '' %}
    {% else %}
 {{ message['content'] ~ eos_token }}
    {% endif %}
{% endfor %}
""",
    "thinking_removed": """{%- set ns = namespace(last=messages|length - 1, searching=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- if loop.index0 > ns.last %}{{- thought }}{% endif %}
    {%- endif %}
    {{- '<' ~ message.role|upper ~ ':' ~ loop.index ~ '/' ~ loop.length ~ '> ' }}
    {%- if content is string %}{{ content|replace('é', 'E') }}{% else %}{{ content }}{% endif %}{{ '\\n' }}
{%- endfor %}
""",
    "parts_and_tools": """{%- macro block(name, value) -%}
<{{ name }}>{{ value }}</{{ name }}>
{%- endmacro -%}
{%- for message in messages %}
{%- if message.content is string %}{{ block(message.role, message.content) }}
{%- elif message.content is mapping %}{{ block('result', message.content | tojson) }}
{%- elif message.content is iterable %}
    {%- for part in message.content | selectattr('type', 'equalto', 'text') %}{{ part.text }}{{ ", " if not loop.last }}{% endfor %}
    {{- message.content | map(attribute='type') | join('+') }}
    {%- for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}
{%- endif %}
{%- if message.tool_calls is defined and message.tool_calls %}
    {%- for call in message.tool_calls %}
        {%- if call.function %}{% set call = call.function %}{% endif %}
{{ '\\n{"name": "' + call.name + '", "arguments": ' }}{{ call.arguments | tojson }}}
{{ call | tojson(indent=4) }}
        {%- for key, value in call.arguments.items() %}[{{ key }}={{ value | tojson }}]{% endfor %}
        {%- for key, value in call.arguments | dictsort %}({{ key }}){% endfor %}
        {{- call.arguments.get('missing', 'none') }}
    {%- endfor %}
{%- endif %}
{%- endfor %}
""",
    "generation_marks": """{% for message in messages %}
{% if message.role == 'assistant' %}
{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
{% else %}
{{ message.role.title() }}: {{ message.content|trim|capitalize if message.content is string else '' }}
{% endif %}
{% endfor %}
""",
    "undefined_and_defaults": """{{ missing | default('absent') }}{{ missing }}{% if missing %}no{% endif %}
{%- set names = ['a', 'b'] + ['c'] %}{{ names | join('-') }}{{ names | first }}{{ names | last }}{{ names[-1] }}
{{ messages | length }}{{ 'x' * 3 }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 7 / 2 }}{{ 2 ** 5 }}{{ true }}{{ none }}{{ 1.0 }}
{{ messages[0].content.endswith('. ') }}{{ 'abc'[1:] }}{{ 'a b'.split() | length }}{{ 'role' in messages[0] }}
{%- if tools is none and not documents %} none{% endif %}{# a comment #}
{{ range(3) | list }}{{ {'k': 'v'} }}{{ ['x', 1, none, true] }}
""",
}

CONVERSATIONS = {"full": DIALOGUE, "no_system": DIALOGUE[1:], "parts": PARTS, "assistant_first": DIALOGUE[2:]}

cases = []
for name, template in TEMPLATES.items():
    for label, conversation in CONVERSATIONS.items():
        case = {"template": name, "messages": label}
        try:
            rendered, _ = render_jinja_template([conversation], chat_template=template, **TOKENS)
            case["expected"] = rendered[0]
        except (jinja2.exceptions.TemplateError, TypeError) as error:
            case["fails"] = str(error)
        cases.append(case)
json.dump(
    {"tokens": TOKENS, "templates": TEMPLATES, "conversations": CONVERSATIONS, "cases": cases},
    sys.stdout, ensure_ascii=False, indent=1,
)
print()
