"""Records llama-quantize's own choice of tensor types, for every mix on several model shapes.

    python llama_quantize_types.py /path/to/llama-quantize > llama_quantize_types.json

Needs the `gguf` package and a llama-quantize that knows `--dry-run`. Each shape becomes a GGUF file of headers and a hole
(a sparse file: nobody reads the values), and the types are what the dry run prints.

One shape is a record {architecture, num_hidden_layers, num_attention_heads, num_key_value_heads, tensors: [[name, shape]],
types: {mix: "type type ..." in the order of tensors}}; shapes are outermost first.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import gguf
import numpy

MIXES = (
    "q2_k q3_k_s q3_k_m q3_k_l q4_k_s q4_k_m q5_k_s q5_k_m q6_k q8_0 q4_0 q4_1 q5_0 q5_1 iq4_nl iq4_xs f32 f16 bf16"
).split()
ONLY_DECIDING = ("attn_v.weight", "attn_output.weight", "ffn_down.weight", "output.weight", "token_embd.weight")


def shape(arch, layers, heads, kv_heads, hidden, ffn, tied, head_dim=None, vocab=320, only=None):
    head_dim = head_dim or hidden // heads
    q, kv = heads * head_dim, kv_heads * head_dim
    tensors = [("token_embd.weight", [vocab, hidden]), ("output_norm.weight", [hidden])]
    if not tied:
        tensors.append(("output.weight", [vocab, hidden]))
    if arch == "llama":
        tensors.append(("rope_freqs.weight", [head_dim // 2]))
    for i in range(layers):
        block = [
            ("attn_norm.weight", [hidden]),
            ("attn_q.weight", [q, hidden]),
            ("attn_k.weight", [kv, hidden]),
            ("attn_v.weight", [kv, hidden]),
            ("attn_output.weight", [hidden, q]),
            ("ffn_norm.weight", [hidden]),
            ("ffn_gate.weight", [ffn, hidden]),
            ("ffn_up.weight", [ffn, hidden]),
            ("ffn_down.weight", [hidden, ffn]),
        ]
        if arch == "qwen2":
            block += [("attn_q.bias", [q]), ("attn_k.bias", [kv]), ("attn_v.bias", [kv])]
        tensors += [(f"blk.{i}.{name}", dims) for name, dims in block]
    if only:
        tensors = [t for t in tensors if t[0].endswith(only)]
    return {
        "architecture": arch,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden": hidden,
        "ffn": ffn,
        "tensors": tensors,
    }


SHAPES = {
    "llama-3.2-1b, 4 layers, tied": shape("llama", 4, 32, 8, 2048, 8192, tied=True),
    "llama-3.2-1b, 16 layers, untied": shape("llama", 16, 32, 8, 2048, 8192, tied=False, only=ONLY_DECIDING),
    "tinyllama-1.1b, 22 layers": shape("llama", 22, 32, 4, 2048, 5632, tied=False, only=ONLY_DECIDING),
    "mistral-7b, 9 layers": shape("llama", 9, 32, 8, 4096, 14336, tied=False),
    "llama without grouped queries, 6 layers": shape("llama", 6, 8, 8, 512, 1536, tied=False),
    "smollm-360m (960, 2560), 5 layers, tied": shape("llama", 5, 15, 5, 960, 2560, tied=True),
    "smollm-135m (576, 1536), 30 layers, tied": shape("llama", 30, 9, 3, 576, 1536, tied=True, only=ONLY_DECIDING),
    "qwen2.5-0.5b (896, 4864), 24 layers, tied": shape("qwen2", 24, 14, 2, 896, 4864, tied=True, only=ONLY_DECIDING),
    "qwen2.5-7b, 7 layers, untied": shape("qwen2", 7, 28, 4, 3584, 18944, tied=False),
    "qwen2.5-0.5b, 3 layers, untied": shape("qwen2", 3, 14, 2, 896, 4864, tied=False),
    "columns that no block divides": shape("llama", 3, 3, 1, 100, 272, tied=False, head_dim=48),
    "llama, 80 layers, grouped queries (70B)": shape("llama", 80, 8, 1, 512, 1024, tied=False, only=ONLY_DECIDING[:3]),
    "llama, 80 layers, one query a key (65B)": shape("llama", 80, 8, 8, 512, 1024, tied=False, only=ONLY_DECIDING[:1]),
    "qwen2, 80 layers (72B)": shape("qwen2", 80, 8, 8, 512, 1024, tied=False, only=ONLY_DECIDING[:1]),
}


def write_hollow(path, spec):
    """A GGUF file with the shape's metadata and tensor table, and a hole where the values would be."""
    writer = gguf.GGUFWriter(path, spec["architecture"])
    writer.add_context_length(512)
    writer.add_embedding_length(spec["hidden"])
    writer.add_block_count(spec["num_hidden_layers"])
    writer.add_feed_forward_length(spec["ffn"])
    writer.add_head_count(spec["num_attention_heads"])
    writer.add_head_count_kv(spec["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(320)
    end = 0
    for name, dims in spec["tensors"]:
        kind = gguf.GGMLQuantizationType.F32 if len(dims) == 1 else gguf.GGMLQuantizationType.F16
        count = 1
        for d in dims:
            count *= d
        nbytes = count * (4 if len(dims) == 1 else 2)
        dtype = "float32" if len(dims) == 1 else "float16"
        writer.add_tensor_info(name, dims, numpy.dtype(dtype), nbytes, raw_dtype=kind)
        end += (nbytes + 31) // 32 * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.flush()
    writer.close()
    with open(path, "r+b") as file:
        file.seek(0, 2)
        start = (file.tell() + 31) // 32 * 32
        file.truncate(start + end)


LINE = re.compile(r"\]\s+(\S+)\s+- \[[^\]]*\], type =\s*(\S+), size =.*?MiB(?: ->.*\((\S+)\))?\s*$")


def chosen(binary, path, mix):
    """{tensor: type} that llama-quantize would store."""
    run = subprocess.run([binary, "--dry-run", path, mix.upper()], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"llama-quantize failed on {mix}:\n{run.stderr}")
    found = {}
    for line in (run.stdout + run.stderr).splitlines():
        match = LINE.search(line)
        if match:
            found[match[1]] = (match[3] or match[2]).lower().rstrip(",")
    return found


def main(binary):
    out = {}
    for title, spec in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = str(pathlib.Path(folder) / "hollow.gguf")
            write_hollow(path, spec)
            types = {}
            for mix in MIXES:
                found = chosen(binary, path, mix)
                missing = [name for name, _ in spec["tensors"] if name not in found]
                if missing:
                    raise SystemExit(f"{title}, {mix}: no type printed for {missing[:3]}")
                types[mix] = " ".join(found[name] for name, _ in spec["tensors"])
        record = {k: v for k, v in spec.items() if k not in ("hidden", "ffn")}
        out[title] = {**record, "types": types}
    lines = []
    for title, record in out.items():
        fields = []
        for key, value in record.items():
            if key == "types":
                inner = ",\n".join(f"   {json.dumps(m)}: {json.dumps(t)}" for m, t in value.items())
                fields.append(f'  "types": {{\n{inner}\n  }}')
            else:
                fields.append(f"  {json.dumps(key)}: {json.dumps(value)}")
        lines.append(f" {json.dumps(title)}: {{\n" + ",\n".join(fields) + "\n }")
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main(sys.argv[1])
