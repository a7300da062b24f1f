#!/usr/bin/env python3
"""Writes cases.json: chat templates and what transformers makes of them.

The templates are written for this test; together they use what the templates of
published models use.  Those named after a family are built as that family's is, with
words of their own.  Needs transformers 5 and jinja2.

usage: make.py > cases.json
"""
import datetime, json, sys
import jinja2
from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import render_jinja_template


class Clock(datetime.datetime):
    """The day that our renderer names."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_template_utils.datetime = Clock

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

TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "The weather in a \"city\" <now> – é.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                   "required": ["city"]}}}]

CALLS = [
    {"role": "system", "content": "Use tools."},
    {"role": "user", "content": "Is it raining in Oslo?"},
    {"role": "assistant", "content": "<think>\nlook\n</think>\n\nOne moment.", "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 1}}}]},
    {"role": "tool", "name": "weather", "content": "{\"rain\": true}"},
    {"role": "tool", "name": "weather", "content": "wet"},
    {"role": "assistant", "content": "Yes.", "reasoning_content": "It is wet."},
    {"role": "user", "content": "Thanks."},
]

FAMILIES = {
    # a date where there is a clock, tools in the first question, JSON over several lines, roles that are refused
    "llama_3": """{{- bos_token -}}
{%- set day = strftime_now("%d %b %Y") if strftime_now is defined else "1 Jan 2000" %}
{%- set turns = messages %}
{%- set rules = "" %}
{%- if turns[0]["role"] == "system" %}
    {%- set rules = turns[0].content | trim %}
    {%- set turns = turns[1:] %}
{%- endif %}
{{- "<head>system</head>\\n\\nIt is " + day + ".\\n" + rules + "<eot>" }}
{%- if not listing is defined %}{% set listing = true %}{% endif %}
{%- if tools is not none and listing %}
    {%- if turns | length == 0 %}{{- raise_exception("tools need a question") }}{% endif %}
    {{- "<head>user</head>\\n\\n" -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- turns[0]["content"] | trim ~ "<eot>" }}
    {%- set turns = turns[1:] %}
{%- endif %}
{%- for turn in turns %}
    {%- if "tool_calls" in turn %}
        {%- if not turn.tool_calls | length == 1 %}{{- raise_exception("one call at a time") }}{% endif %}
        {%- set what = turn.tool_calls[0].function %}
        {{- '<head>assistant</head>\\n\\n{"name": "' + what.name + '", "parameters": ' }}{{- what.arguments | tojson }}{{- "}<eot>" }}
    {%- elif turn.role in ["tool", "ipython"] %}
        {{- "<head>ipython</head>\\n\\n" }}
        {%- if turn.content is mapping or turn.content is iterable %}{{- turn.content | tojson }}{% else %}{{- turn.content }}{% endif %}
        {{- "<eot>" }}
    {%- else %}
        {{- "<head>" + turn["role"] + "</head>\\n\\n" + turn["content"] | trim + "<eot>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<head>assistant</head>\\n\\n" }}{% endif %}
""",
    # a look from the end for the last question, thoughts before it left out, results of tools gathered in one turn
    "qwen_3": """{%- if tools or messages[0].role == "system" %}
    {{- "<im>system\\n" }}{{- messages[0].content if messages[0].role == "system" else "" }}
    {%- for t in tools or [] %}{{- "\\n" }}{{- t | tojson }}{% endfor %}
    {{- "</im>\\n" }}
{%- endif %}
{%- set seen = namespace(question=-1) %}
{%- for turn in messages[::-1] %}
    {%- if seen.question < 0 and turn.role == "user" and not (turn.content is string and turn.content.startswith("<result>") and turn.content.endswith("</result>")) %}
        {%- set seen.question = messages | length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for turn in messages %}
    {%- set words = turn.content if turn.content is string else "" %}
    {%- if turn.role == "assistant" %}
        {%- set thought = "" %}
        {%- if turn.reasoning_content is string %}
            {%- set thought = turn.reasoning_content %}
        {%- elif "</think>" in words %}
            {%- set thought = words.split("</think>")[0].rstrip("\\n").split("<think>")[-1].lstrip("\\n") %}
            {%- set words = words.split("</think>")[-1].lstrip("\\n") %}
        {%- endif %}
        {{- "<im>assistant\\n" }}
        {%- if loop.index0 > seen.question and (loop.last or thought) %}
            {{- "<think>\\n" + thought.strip("\\n") + "\\n</think>\\n\\n" }}
        {%- endif %}
        {{- words }}
        {%- for call in turn.tool_calls or [] %}
            {%- set call = call.function or call %}
            {{- "\\n" if not loop.first or words }}{{- '{"name": "' + call.name + '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}{{- "}" }}
        {%- endfor %}
        {{- "</im>\\n" }}
    {%- elif turn.role == "tool" %}
        {{- "<im>user" if loop.first or messages[loop.index0 - 1].role != "tool" }}
        {{- "\\n<result>" + words + "</result>" }}
        {{- "</im>\\n" if loop.last or messages[loop.index0 + 1].role != "tool" }}
    {%- elif turn.role == "user" or not loop.first %}
        {{- "<im>" ~ turn.role ~ "\\n" ~ words ~ "</im>\\n" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<im>assistant\\n" }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- "<think></think>" }}{% endif %}
{%- endif %}
""",
    # the system message in front of the first question, a role renamed, messages in parts, turns that must alternate
    "gemma_3": """{{ bos_token }}
{%- set rules = "" -%}
{%- set turns = messages -%}
{%- if messages[0].role == "system" -%}
    {%- set rules = (messages[0].content if messages[0].content is string else messages[0].content[0].text) + "\n\n" -%}
    {%- set turns = messages[1:] -%}
{%- endif -%}
{%- for turn in turns -%}
    {%- if (turn.role == "user") != (loop.index0 is even) -%}{{ raise_exception("take turns") }}{%- endif -%}
    {{ "<turn>" + ("model" if turn.role == "assistant" else turn.role) + "\n" + (rules if loop.first else "") }}
    {%- if turn.content is string -%}
        {{ turn.content | trim }}
    {%- elif turn.content is iterable -%}
        {%- for part in turn.content -%}
            {{ "<picture>" if part.type == "image" else part.text | trim }}
        {%- endfor -%}
    {%- endif -%}
    {{ "</turn>\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<turn>model\n" }}{%- endif -%}
""",
    # tools that come with a message, an end of text where no answer is asked for
    "phi_4_mini": """{% for turn in messages %}{% set mark = '<|' + turn['role'] + '|>' %}{% if 'tools' in turn and turn['tools'] is not none %}{{ mark + turn['content'] + '<|tool|>' + turn['tools'] + '<|end|>' }}{% elif turn['role'] in ('user', 'assistant', 'system') %}{{ mark + turn['content'] + '<|end|>' }}{% endif %}{% endfor %}{{ '<|assistant|>' if add_generation_prompt else eos_token }}""",
    # a macro with defaults and named arguments, a block that is set, a mode read off the system message, the date
    "smollm_3": """{%- macro heading(title, level=2, body=none) -%}
{{ '#' * level }} {{ title }}{% if body is not none %}: {{ body }}{% endif %}

{% endmacro -%}
{%- set rules = messages[0].content if messages[0].role == 'system' else '' -%}
{%- set mode = 'quick' if '/quick' in rules else 'slow' -%}
{%- set rules = rules.replace('/quick', '').replace('/slow', '').rstrip() -%}
{{- '<im>system\n' ~ heading('Facts') ~ heading('Today', level=3, body=strftime_now('%d %B %Y')) -}}
{%- set told -%}
  mode={{ mode | replace('o', '0') | upper }}
{%- endset -%}
{{- told ~ '\n' ~ (rules or 'Think first.') ~ '\n' -}}
{%- if own_tools or tools -%}
  {{- heading('Tools', body=tools | map(attribute='function') | map(attribute='name') | join(', ')) -}}
  {%- set all = namespace(text='') -%}
  {%- for t in own_tools or tools -%}{%- set all.text = all.text ~ (t.function | string) ~ '\n' -%}{%- endfor -%}
  {{- all.text -}}
{%- endif -%}
{{- '</im>\n' -}}
{%- for turn in messages if turn.role != 'system' -%}
  {%- set words = turn.content if turn.content is string else '' -%}
  {%- if turn.role == 'assistant' -%}
    {%- generation -%}{{ '<im>assistant\n' + ('' if mode == 'slow' else '<think>\n</think>\n') + words.lstrip('\n') + '</im>\n' }}{%- endgeneration -%}
  {%- else -%}
    {{ '<im>user\n' ~ words ~ '</im>\n' }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<im>assistant\n' }}{%- endif -%}
""",
    # a system message put together from what is given, what may be undefined, a loop over a mapping's items
    "granite_3": """{%- set rest = messages %}
 {%- set rules = "It is " + strftime_now('%B %d, %Y') + "." %}
 {%- if messages[0]['role'] == 'system' %}
     {%- set rules, rest = messages[0]['content'], messages[1:] %}
 {%- elif tools and documents %}
     {%- set rules = rules + " Tools and documents." %}
 {%- elif tools %}
     {%- set rules = rules + " Tools." %}
 {%- elif thinking %}
     {%- set rules = rules + " Think." %}
 {%- endif %}
 {%- if 'citations' in controls and documents %}{%- set rules = rules + " Cite." %}{%- endif %}
 {{- '<role>system</role>' + rules + '<eot>\n' }}
 {%- if tools %}{{- '<role>tools</role>' }}{{- tools | tojson(indent=2) }}{{- '<eot>\n' }}{%- endif %}
 {%- for turn in rest %}
     {{- '<role>' + turn['role'] + '</role>' }}
     {%- if turn.tool_calls %}
         {%- for key, value in turn.tool_calls[0].function.arguments | items %}{{ key }}={{ value }}{{ '' if loop.last else ';' }}{% endfor %}
     {%- else %}
         {{- turn['content'] }}
     {%- endif %}
     {{- '<eot>\n' }}
     {%- if loop.last and add_generation_prompt %}
         {{- '<role>assistant' }}{%- if controls %}{{- ' ' + controls | tojson() }}{%- endif %}{{- '</role>' }}
     {%- endif %}
 {%- endfor %}
""",
    # the last of some filtered turns, mappings compared, JSON cut short, the turn before this one
    "mistral_7": """{{- bos_token }}
{%- set turns = messages[1:] if messages[0]["role"] == "system" else messages %}
{%- set asked = turns | selectattr("role", "equalto", "user") | list %}
{%- set count = namespace() %}
{%- set count.turns = 0 %}
{%- for turn in turns %}
    {%- if turn.role != "tool" and (turn.tool_calls is not defined or turn.tool_calls is none) %}
        {%- if (turn.role == "user") != (count.turns % 2 == 0) %}{{- raise_exception("take turns") }}{% endif %}
        {%- set count.turns = count.turns + 1 %}
    {%- endif %}
{%- endfor %}
{%- for turn in turns %}
    {%- if turn.role == "user" %}
        {%- if tools is not none and turn == asked[-1] %}
            {{- "[TOOLS][" }}
            {%- for t in tools %}
                {%- for key, value in t.function.items() if key != "description" %}
                    {{- '"' + key + '": ' }}{{- '"' + value + '"' if value is string else value | tojson }}{{- ", " if not loop.last }}
                {%- endfor %}
            {%- endfor %}
            {{- "][/TOOLS]" }}
        {%- endif %}
        {{- "[INST] " }}
        {%- if loop.last and messages[0].role == "system" %}{{- messages[0].content + "\\n\\n" }}{% endif %}
        {{- turn["content"] + "[/INST]" }}
    {%- elif turn.tool_calls is defined and turn.tool_calls is not none %}
        {%- for call in turn.tool_calls %}
            {%- set out = call.function | tojson %}
            {{- out[:-1] }}{{- ', "id": "' + loop.index | string + '"}' }}{{- ", " if not loop.last else eos_token }}
        {%- endfor %}
    {%- elif turn.role == "tool" %}
        {%- set result = turn.content.content if turn.content.content is defined else turn.content %}
        {{- "[RESULT]" + result | string + " after " + loop.previtem.role + "[/RESULT]" }}
    {%- else %}
        {{- " " + turn.content | trim + eos_token }}
    {%- endif %}
{%- endfor %}
""",
}

CONVERSATIONS = {"full": DIALOGUE, "no_system": DIALOGUE[1:], "parts": PARTS, "assistant_first": DIALOGUE[2:]}
ASKED = {"asked": DIALOGUE[:4], "asked_plainly": DIALOGUE[1:4], "answered": DIALOGUE, "calls": CALLS, "parts": PARTS}



def case(name, template, label, conversation, tools=False, prompt=False):
    out = {"template": name, "messages": label, "tools": tools, "prompt": prompt}
    try:
        rendered, _ = render_jinja_template(
            [conversation], chat_template=template, tools=TOOLS if tools else None, add_generation_prompt=prompt, **TOKENS)
        out["expected"] = rendered[0]
    except (jinja2.exceptions.TemplateError, TypeError) as error:
        out["fails"] = str(error)
    return out


cases = [
    case(name, template, label, conversation)
    for name, template in TEMPLATES.items() for label, conversation in CONVERSATIONS.items()
] + [
    case(name, template, label, conversation, tools, prompt)
    for name, template in FAMILIES.items() for label, conversation in ASKED.items()
    for tools, prompt in [(False, True), (True, False)]
]
json.dump(
    {"tokens": TOKENS, "tools": TOOLS, "templates": TEMPLATES | FAMILIES, "conversations": CONVERSATIONS | ASKED, "cases": cases},
    sys.stdout, ensure_ascii=False, indent=1,
)
print()
