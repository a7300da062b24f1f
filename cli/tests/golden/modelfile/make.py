#!/usr/bin/env python3
"""Writes cases.json: the Modelfiles that slmc writes for chat templates of several kinds, what transformers makes of those
templates and what Go makes of the Modelfiles'.

The templates are written for this test, as families build theirs.  Needs transformers 5, jinja2 and go.

usage: make.py SLMC > cases.json      (SLMC: the program)
"""
import json, pathlib, shutil, subprocess, sys, tempfile
from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import render_jinja_template

HERE = pathlib.Path(__file__).resolve().parent
TINY = HERE.parents[3] / "models/tiny"
TOKENS = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}

TURNS = [
    {"role": "system", "content": "Be brief: {{ no template }} {"},
    {"role": "user", "content": "What is \"2 < 3\"?\n\nSay."},
    {"role": "assistant", "content": "A comparison.\n한국어"},
    {"role": "user", "content": "And 3 < 2?"},
    {"role": "assistant", "content": "It is false."},
    {"role": "user", "content": "Thanks"},
]
CONVERSATIONS = [TURNS, TURNS[:2], TURNS[1:], TURNS[1:2], TURNS[1:4], TURNS[:4]]

CASES = {
    # name: (template, whether the tokenizer adds the beginning of a text, generation_config.json)
    "chatml with words of its own": ("""{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system
Help.<|im_end|>
{% endif %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
        False, {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "eos_token_id": [0, 5]}),
    "headers, a date and tools": ("""{{- bos_token }}{%- set day = strftime_now("%d %b %Y") if strftime_now is defined else "1 Jan 2000" %}
{%- set rules = "" %}
{%- if messages[0].role == "system" %}{%- set rules = messages[0].content | trim %}{%- set messages = messages[1:] %}{%- endif %}
{{- "<|h|>system<|/h|>\\n\\nToday: " + day + "\\n" }}
{%- if tools is not none %}{%- for t in tools %}{{- t | tojson }}{%- endfor %}{%- endif %}
{{- rules + "<|eot|>" }}
{%- for m in messages %}{{- "<|h|>" + m.role + "<|/h|>\\n\\n" + m.content | trim + "<|eot|>" }}{%- endfor %}
{%- if add_generation_prompt %}{{- "<|h|>assistant<|/h|>\\n\\n" }}{%- endif %}""", True, None),
    "system in the first turn": ("""{{ bos_token }}{%- if messages[0].role == 'system' -%}{%- set first = messages[0].content + '\\n\\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set first = '' -%}{%- set turns = messages -%}{%- endif -%}
{%- for m in turns -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('take turns') }}{%- endif -%}
{{ '<turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + (first if loop.first else '') + m.content | trim + '</turn>\\n' }}
{%- endfor -%}{%- if add_generation_prompt -%}{{ '<turn>model\\n' }}{%- endif -%}""", True, {"do_sample": False}),
    "no system": ("""{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}{% for m in messages %}{{ '<turn>' + m.role + '\\n' + m.content + '</turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<turn>assistant\\n' }}{% endif %}""", True, {}),
    "an end where no answer is asked for": ("""{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}{{ '<|assistant|>\\n' if add_generation_prompt else eos_token }}""", False, {"temperature": 0.5}),
    "instructions, system in the last": ("""{{- bos_token }}{%- set turns = messages[1:] if messages[0].role == 'system' else messages %}
{%- for m in turns %}
{%- if m.role == 'user' %}{{- '[INST] ' }}{%- if loop.last and messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}{{- m.content + ' [/INST]' }}
{%- else %}{{- ' ' + m.content | trim + eos_token }}{%- endif %}
{%- endfor %}""", False, {"do_sample": True, "min_p": 0.05}),
    "braces in its marks": ("""{% for m in messages %}{{ '{{' ~ m.role ~ '}} {' ~ m.content ~ '}' }}{% endfor %}{% if add_generation_prompt %}{{ '{{assistant}} {' }}{% endif %}""", False, None),
    "thoughts left out": ("""{%- for m in messages %}
{%- set words = m.content %}
{%- if m.role == 'assistant' and '</think>' in words %}{%- set words = words.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
{%- if m.role == 'assistant' and loop.last %}{%- set words = '<think>\\n\\n</think>\\n\\n' + words %}{%- endif %}
{{- '<|im_start|>' + m.role + '\\n' + words + '<|im_end|>\\n' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}""", False, None),
    "the day itself": ("""{{ 'Today: ' + strftime_now('%Y-%m-%d') + '\\n' }}{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}""", False, None),
    "turns are counted": ("""{% for m in messages %}{{ loop.index ~ ' ' ~ m.role ~ ': ' ~ m.content ~ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}""", False, None),
    "every turn a text": ("""{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}""", True, None),
    "none": (None, False, None),
}


def modelfile(slmc, template, adds_bos, generation):
    with tempfile.TemporaryDirectory() as work:
        model = pathlib.Path(work) / "model"
        shutil.copytree(TINY, model)
        config = dict(TOKENS)
        if template is not None:
            config["chat_template"] = template
        (model / "tokenizer_config.json").write_text(json.dumps(config))
        if generation is None:
            (model / "generation_config.json").unlink(missing_ok=True)
        else:
            (model / "generation_config.json").write_text(json.dumps(generation))
        if adds_bos:
            bos = TOKENS["bos_token"]
            tokenizer = json.loads((model / "tokenizer.json").read_text())
            tokenizer["post_processor"] = {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {bos: {"id": bos, "ids": [0], "tokens": [bos]}},
            }
            (model / "tokenizer.json").write_text(json.dumps(tokenizer))
        subprocess.run([slmc, "convert", str(model), "--modelfile", "--output", "model.gguf"], cwd=work, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return (pathlib.Path(work) / "model.Modelfile").read_text()


def render(messages, template):
    """As transformers does, without a clock."""
    chat_template_utils._compile_jinja_template(template).environment.globals.pop("strftime_now", None)
    return render_jinja_template([messages], chat_template=template, add_generation_prompt=True, **TOKENS)[0][0]


def main():
    slmc = str(pathlib.Path(sys.argv[1]).resolve())
    cases = []
    for name, (jinja, adds_bos, generation) in CASES.items():
        text = modelfile(slmc, jinja, adds_bos, generation)
        template = text.split('TEMPLATE """')[1].split('"""')[0] if 'TEMPLATE """' in text else None
        conversations = []
        for messages in CONVERSATIONS if template is not None else []:
            try:
                rendered = render(messages, jinja)
            except Exception:  # a system message that the template refuses
                continue
            conversations.append({"messages": messages, "transformers": rendered})
        cases.append({"name": name, "jinja": jinja or "", "adds_bos": adds_bos, "generation": generation, "modelfile": text,
                      "template": template, "conversations": conversations})
    out = subprocess.run(["go", "run", str(HERE / "render.go")], input=json.dumps(cases), text=True, check=True,
                         stdout=subprocess.PIPE)
    sys.stdout.write(out.stdout)


main()
