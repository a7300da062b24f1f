"""A Gemma 3 model that sees, around a text model: OUT/older and OUT/newer have its tensors under either of the names that transformers has given
them, OUT/logits.f32 its logits (f32, raw) of tokens (i * 7919 + 13) % vocab_size without an image.

usage: whole.py TOKENS TEXT OUT        (torch, transformers, safetensors)
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

tokens, text_dir, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
text = AutoModelForCausalLM.from_pretrained(text_dir, dtype=torch.float32)
vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
config = Gemma3Config(text_config=text.config.to_dict(), vision_config=vision, mm_tokens_per_image=4)
config._attn_implementation = "eager"
whole = Gemma3ForConditionalGeneration(config).eval()
whole.model.language_model.load_state_dict(text.model.state_dict())
whole.tie_weights()
ids = torch.tensor([[(i * 7919 + 13) % text.config.vocab_size for i in range(tokens)]])
with torch.no_grad():
    logits = whole(input_ids=ids).logits[0]
(out / "logits.f32").write_bytes(logits.float().contiguous().numpy().tobytes())
settings = json.loads(config.to_json_string(use_diff=True)) | {"architectures": ["Gemma3ForConditionalGeneration"]}
weights = {name: values.contiguous() for name, values in whole.state_dict().items() if name != "lm_head.weight"}
assert any(name.startswith("model.vision_tower.") for name in weights)
older = {"model.language_model.": "language_model.model.", "model.vision_tower.": "vision_tower.", "model.multi_modal_projector.": "multi_modal_projector."}


def renamed(name):
    old = next(prefix for prefix in older if name.startswith(prefix))
    return older[old] + name.removeprefix(old)


for layout, names in [("newer", str), ("older", renamed)]:
    (out / layout).mkdir()
    (out / layout / "config.json").write_text(json.dumps(settings))
    save_file({names(name): values for name, values in weights.items()}, out / layout / "model.safetensors")
