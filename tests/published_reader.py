"""What TRM answers, from an exported folder alone: numpy, and nothing of drm_jax.

A checkpoint is read here as somebody would who knows the published layout from its names.
"""

import json
from pathlib import Path

import numpy as np

TYPES = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "I64": np.int64}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """A length of 8 bytes, a header in JSON, the numbers."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__")
    arrays = {}
    for name, about in header.items():
        first, end = about["data_offsets"]
        numbers = np.frombuffer(raw[start + first : start + end], TYPES[about["dtype"]])
        arrays[name] = numbers.reshape(about["shape"])
    return arrays


class Reader:
    """The network of TRM, in float64."""

    def __init__(self, folder: Path, prefix: str = ""):
        arrays = read_safetensors(folder / "model.safetensors")
        start = f"{prefix}inner."
        assert all(name.startswith(start) for name in arrays)
        self.w = {name.removeprefix(start): x.astype(np.float64) for name, x in arrays.items()}
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    def step(self, tokens_BxS, ids_B, y=None, z=None):
        """(logits, halting logits, y, z) after a step of a test; the first one without latents."""
        c, w = self.config, self.w
        rows = w["puzzle_emb.weights"][ids_B]
        prefix = np.zeros((len(rows), c["puzzle_emb_len"], c["hidden_size"]))
        prefix[:, 0] = rows
        x = np.concatenate([prefix, w["embed_tokens.embedding_weight"][tokens_BxS]], axis=1)
        x = x * c["hidden_size"] ** 0.5
        y = np.broadcast_to(w["H_init"], x.shape) if y is None else y
        z = np.broadcast_to(w["L_init"], x.shape) if z is None else z
        for _ in range(c["H_cycles"]):
            for _ in range(c["L_cycles"]):
                z = self.block(z + y + x)
            y = self.block(y + z)
        logits = y[:, c["puzzle_emb_len"] :] @ w["lm_head.weight"].T
        return logits, y[:, 0] @ w["q_head.weight"].T + w["q_head.bias"], y, z

    def block(self, h):
        for i in range(self.config["L_layers"]):
            layer = f"L_level.layers.{i}"
            if self.config["mlp_t"]:
                turned = h.swapaxes(1, 2)
                h = rms(turned + self.swiglu(f"{layer}.mlp_t", turned)).swapaxes(1, 2)
            else:
                h = rms(h + self.attention(f"{layer}.self_attn", h))
            h = rms(h + self.swiglu(f"{layer}.mlp", h))
        return h

    def swiglu(self, name, h):
        gate, up = np.split(h @ self.w[f"{name}.gate_up_proj.weight"].T, 2, axis=-1)
        return (gate / (1 + np.exp(-gate)) * up) @ self.w[f"{name}.down_proj.weight"].T

    def attention(self, name, h):
        heads, (batch, tokens, width) = self.config["num_heads"], h.shape
        parts = np.split(h @ self.w[f"{name}.qkv_proj.weight"].T, 3, axis=-1)
        q, k, v = (x.reshape(batch, tokens, heads, -1).swapaxes(1, 2) for x in parts)
        scores = rotated(q) @ rotated(k).swapaxes(2, 3) / q.shape[-1] ** 0.5
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out = (weights @ v).swapaxes(1, 2).reshape(batch, tokens, width)
        return out @ self.w[f"{name}.o_proj.weight"].T


def rms(h):
    return h / np.sqrt(np.square(h).mean(axis=-1, keepdims=True) + 1e-5)


def rotated(x):
    """Each half of a head's numbers turned against the other, by its place."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[-2])[:, None] / 1e4 ** (np.arange(half) / half)
    one, two = x[..., :half], x[..., half:]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)
