#!/usr/bin/env python3
"""Writes cases.json: conversations as token ids of models/tiny's tokenizer, and transformers' mask of the assistant's tokens.

Templates come in two forms: one marks answers with {% generation %}, the other is what the first renders to. Needs transformers 5.

usage: make.py > cases.json
"""
import json, sys
from pathlib import Path
from transformers import AutoTokenizer

ROOT = Path(__file__).parents[3]
TEMPLATES = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}GENERATION{{ m.content + '<|im_end|>' }}END{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "headers": (
        "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + ']\n\n' }}GENERATION{{ m.content | trim }}{{ eos_token }}END{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant]\n\n' }}{% endif %}"
    ),
}
CONVERSATIONS = [
    [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "What is the sky?"},
        {"role": "assistant", "content": "It is blue, 수, 🙂."},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "Once upon a time\n\nthere was a little girl. "},
    ],
    [{"role": "user", "content": "Only"}, {"role": "assistant", "content": "one"}, {"role": "user", "content": "answer"}],
]

tokenizer = AutoTokenizer.from_pretrained(ROOT / "models/tiny")
cases = []
for name, source in TEMPLATES.items():
    plain = source.replace("GENERATION", "").replace("END", "")
    body = source.split("GENERATION")[1].split("END")[0]
    marked = source.replace("GENERATION" + body + "END", (
        "{% if m.role == 'assistant' %}{% generation %}" + body + "{% endgeneration %}{% else %}" + body + "{% endif %}"))
    for messages in CONVERSATIONS:
        found = tokenizer.apply_chat_template(
            messages, chat_template=marked, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        same = tokenizer.apply_chat_template(messages, chat_template=plain, tokenize=True, return_dict=True)
        assert same["input_ids"] == found["input_ids"]
        cases.append({"name": name, "plain": plain, "marked": marked, "messages": messages,
                      "ids": found["input_ids"], "mask": found["assistant_masks"]})
tokens = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token")}
json.dump({"tokens": tokens, "cases": cases}, sys.stdout, ensure_ascii=False, indent=1)
print()
