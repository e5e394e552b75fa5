"""Changes one place of a JSON tree: a value, a key, or where it stands."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 4, 8, 31, 32, 33, 63, 64, 65, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32),
    *(2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 10**400, -(2**31), -(2**63)),
    *(0.5, -0.0, 1.0, 1e-45, 3.5e38, 1e308, float("inf"), float("-inf"), float("nan")),
)
"""Numbers at the edges of what types of numbers hold."""

_PIECES = (
    *("", " ", ".", "0", "-1", "\0", "\n", "\ud800", "\u2028", "\U0001f600", "../", "/", "'", "%s", "{}", "x" * 300),
    *("(", ")", "[", "]", "*", "+", "?", "|", "^", "$", "\\", "\\d", "\\1", ".*", "(.*)*x", "(a|a)+", "{2,99999}"),
    *("(?=", "(?<=", "(?:", "(?i)", "(?P<a>", "{9,}"),
    *("q_proj", "k_proj", "down_proj", "model", "layers", "1", "99", "self_attn", "lora_A", "lora_B", "weight"),
)


_SETTINGS = (
    *("alora_invocation_tokens", "alpha_pattern", "arrow_config", "base_model_name_or_path", "bias", "corda_config"),
    *("eva_config", "exclude_modules", "fan_in_fan_out", "init_lora_weights", "invocation_string", "layer_replication"),
    *("layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_bias", "megatron_config"),
    *("modules_to_save", "peft_type", "r", "rank_pattern", "revision", "target_modules", "target_parameters"),
    *("trainable_token_indices", "use_dora", "use_qalora", "use_rslora"),
)


def mutate_config(content: bytes, random: Random) -> bytes | None:
    """Gives a changed adapter_config.json, or None where it is no JSON."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return write_json(mutate_json(tree, random, keys=_SETTINGS))


def mutate_text(text: str, random: Random) -> str:
    """Cuts a text, doubles a part of it, or puts something into it."""
    start, end = sorted((random.randint(0, len(text)), random.randint(0, len(text))))
    part = random.choice((random.choice(_PIECES), "", text[start:end] * 2, chr(random.randint(0, 0x2FF))))
    return text[:start] + part + text[random.choice((start, end)) :]


def mutate_json(tree: Any, random: Random, *, keys: tuple[str, ...] = ()) -> Any:
    """Gives a copy of a tree with one to three changes.

    Args:
        tree: What `json.loads` made.
        random: Where chance comes from.
        keys: Names that an object of this kind knows; some get a value.
    """
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if keys and isinstance(tree, dict) and random.random() < 0.25:
            tree[random.choice(keys)] = _value(tree, random)
        elif not places or random.random() < 0.02:
            tree = _value(tree, random)
        else:
            _change(*random.choice(places), tree, random)
    return tree


def write_json(tree: Any) -> bytes:
    """Writes a tree as UTF-8; half a surrogate pair becomes an escape."""
    try:
        return json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Gives each (container, key) of a tree, outermost first."""
    pending = [tree]
    for container in pending:
        if isinstance(container, (dict, list)):
            for key in list(container) if isinstance(container, dict) else range(len(container)):
                yield container, key
                pending.append(container[key])


def _value(tree: Any, random: Random) -> Any:
    others = [container[key] for container, key in _places(tree)]
    return copy.deepcopy(
        random.choice(
            (
                random.choice(NUMBERS),
                random.choice(_PIECES),
                random.choice((None, True, False, [], {}, [[]], {"": None})),
                random.choice(others or [None]),
            )
        )
    )


def _change(container: Any, key: Any, tree: Any, random: Random) -> None:
    old = container[key]
    action = random.randrange(6)
    if action == 0:
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container[mutate_text(key, random)] = container.pop(key)
    elif action == 1:
        container.insert(key, copy.deepcopy(old))
    elif action == 2 and isinstance(old, str):
        container[key] = mutate_text(old, random)
    elif action == 2 and isinstance(old, (int, float)):
        container[key] = random.choice((old + 1, old - 1, -old, old * 2, float(old) if abs(old) < 1e300 else 0.5))
    elif action == 3:
        container[key] = [old] * random.choice((1, 2, 40))
    elif action == 4:
        other, other_key = random.choice(list(_places(tree)))
        container[key], other[other_key] = copy.deepcopy(other[other_key]), copy.deepcopy(old)
    else:
        container[key] = _value(tree, random)
