"""Adapters in PEFT: the gradients of a step, and what it writes: lora.json, lora_fused.json.

    python make_lora.py        (torch, transformers, peft)

The student of make_training.py with adapters beside all linear layers, whose values come from a counter (see `value`); loss and gradients of the
first two sequences of training.json, and the names, shapes and settings that `save_pretrained` writes. The second file is of the same student as a
Phi-3 model, which keeps query, key and value in one matrix, and gate and up in another: PEFT has one adapter beside each.
"""

import json
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, Phi3Config, Phi3ForCausalLM

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
TEMPERATURE, ALPHA, RANK, LORA_ALPHA = 2.0, 0.1, 4, 6.0
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FUSED_TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]

model = lambda: AutoModelForCausalLM.from_pretrained(ROOT / "models/tiny", dtype=torch.float32, attn_implementation="eager")


def plain():
    """The first and the last block of the bundled model."""
    student = model()
    student.model.layers = torch.nn.ModuleList([student.model.layers[0], student.model.layers[3]])
    return student


def fused():
    """The same as a Phi-3 model."""
    student = plain()
    kept = ["vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "rms_norm_eps",
            "tie_word_embeddings", "max_position_embeddings", "rope_parameters"]
    config = Phi3Config(num_hidden_layers=2, pad_token_id=0, **{name: getattr(student.config, name) for name in kept})
    config._attn_implementation = "eager"
    weights, together = dict(student.state_dict()), {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
    for layer in range(2):
        for whole, parts in together.items():
            block = f"model.layers.{layer}." + ("self_attn" if whole == "qkv_proj" else "mlp")
            weights[f"{block}.{whole}.weight"] = torch.cat([weights.pop(f"{block}.{part}.weight") for part in parts])
    student = Phi3ForCausalLM(config)
    student.load_state_dict(weights)
    return student


def value(i):
    """The i-th value of every matrix."""
    return ((i * 2654435761) % 2**32 / 2**32 - 0.5) * 0.2


def write(name, student, targets):
    """One step of a student, and what PEFT writes of it."""
    config = LoraConfig(r=RANK, lora_alpha=LORA_ALPHA, target_modules=targets, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM")
    student = get_peft_model(student, config)
    trained = {name: p for name, p in student.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for p in trained.values():
            p.copy_(torch.tensor([value(i) for i in range(p.numel())], dtype=torch.float64).float().view_as(p))
    tokens = torch.tensor(json.loads((HERE / "training.json").read_text())["sequences"][:2])
    with torch.no_grad():
        p = F.log_softmax(teacher(tokens).logits[:, :-1] / TEMPERATURE, -1)
    logits = student(tokens).logits[:, :-1]
    q = F.log_softmax(logits / TEMPERATURE, -1)
    soft = TEMPERATURE**2 * F.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean()
    loss = (1 - ALPHA) * soft + ALPHA * F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    gradients = {}
    for parameter, p in trained.items():
        flat = p.grad.flatten()
        at = [i * (flat.numel() - 1) // 15 for i in range(16)]
        gradients[parameter.replace(".default", "")] = {"norm": flat.double().norm().item(), "values": [flat[i].item() for i in at]}
    with tempfile.TemporaryDirectory() as directory:
        student.save_pretrained(directory)
        with safe_open(Path(directory) / "adapter_model.safetensors", "pt") as file:
            shapes = {name: list(file.get_tensor(name).shape) for name in sorted(file.keys())}
        saved = json.loads((Path(directory) / "adapter_config.json").read_text())
    saved["target_modules"] = sorted(saved["target_modules"])
    del saved["base_model_name_or_path"]
    out = {"rank": RANK, "alpha": LORA_ALPHA, "loss": loss.item(), "gradients": gradients, "shapes": shapes, "config": saved}
    (HERE / name).write_text(json.dumps(out) + "\n")
    print(name, loss.item())


teacher = model().eval()
write("lora.json", plain(), TARGETS)
write("lora_fused.json", fused(), FUSED_TARGETS)
