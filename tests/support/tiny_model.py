"""A model's file in GGUF, made when a test needs it: weights by chance, so it knows and judges nothing.

All but chance is a leaning of the output towards some characters, whatever stands before them. Left to
itself it repeats the first for ever; held to a grammar it ends each part of an answer as soon as it may.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="needs gguf: pip install gguf")
if find_spec("xllamacpp") is None:
    pytest.skip("needs xllamacpp: pip install 'fin-llm-inference[llm]'", allow_module_level=True)

WIDTH, LAYERS, HEADS, HIDDEN = 64, 2, 4, 128
CONTEXT = 32_768
TO_THE_BOUND = '"]},1u'
"""With these the numbers of an answer are 1, within every bound, and its stance is up."""
BEYOND_IT = '"]},9u'
"""With these they are 9, which for a shift is too many."""
CHARACTERS = [*map(chr, range(33, 127)), "\u2581"]
"""A token each; of all others the bytes are."""
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
_CONTROL = ("<unk>", "<s>", "</s>")
_FIRST = len(_CONTROL) + 256
_LEAST, _SELDOM, _END, _MOST, _STEP = -8.0, -4.0, -3.0, 3.0, 0.6


def make_model(path: Path, leaning: str = TO_THE_BOUND, seed: int = 0) -> Path:
    """Write a model and return its path. The same arguments, the same bytes."""
    chance = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    _shape(writer)
    n = _vocabulary(writer)
    embedding, output = _weights(chance, n, WIDTH), _weights(chance, n, WIDTH)
    embedding[:, 0] = (
        1.0  # so that the first component of what is read out is nearly the same always
    )
    output[:, 0] = _leaning(n, leaning) / np.sqrt(WIDTH)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        _layer(writer, f"blk.{layer}", chance)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(chance: np.random.Generator, *shape: int) -> np.ndarray:
    return (0.02 * chance.normal(size=shape)).astype(np.float32)


def _leaning(n: int, leaning: str) -> np.ndarray:
    logits = np.full(n, _LEAST)
    logits[_FIRST:-1] = _SELDOM
    logits[_CONTROL.index("</s>")] = _END
    for i, character in enumerate(leaning):
        logits[_FIRST + CHARACTERS.index(character)] = _MOST - _STEP * i
    return logits


def _shape(writer: "gguf.GGUFWriter") -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)


def _vocabulary(writer: "gguf.GGUFWriter") -> int:
    kind = gguf.TokenType
    tokens = [*_CONTROL, *(f"<0x{i:02X}>" for i in range(256)), *CHARACTERS]
    kinds = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL, *[kind.BYTE] * 256]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([*kinds, *[kind.NORMAL] * len(CHARACTERS)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def _layer(writer: "gguf.GGUFWriter", name: str, chance: np.random.Generator) -> None:
    for part in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"{name}.{part}.weight", np.ones(WIDTH, np.float32))
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"{name}.{part}.weight", _weights(chance, WIDTH, WIDTH))
    for part in ("ffn_gate", "ffn_up"):
        writer.add_tensor(f"{name}.{part}.weight", _weights(chance, HIDDEN, WIDTH))
    writer.add_tensor(f"{name}.ffn_down.weight", _weights(chance, WIDTH, HIDDEN))
