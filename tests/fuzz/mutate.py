"""Mutations of a seed: of its bytes, of its text, of the tree that its text holds. The same random numbers give the same."""

import json
import random
from collections.abc import Callable
from typing import Any

NUMBERS: list[Any] = [
    0, 1, -1, 2, 7, 255, 256, 65535, -(2**31), 2**31, 2**63, 2**64, 10**30, 0.5, -0.5, 1e308, -1e308, 1e-308,
    float("nan"), float("inf"), float("-inf"), True, False, None,
]  # fmt: skip
TEXTS = [
    "", " ", "a", "\0", "\n", "\x1b[31m", "\ud800", "é" * 50, "x" * 300, "..", "../..", "/", "/etc/passwd", "/proc/kmsg",
    "~", "graphs/../../x", "C:\\x", "full", "trunk", "dense", "int8", "fp32", "nan", "inf", "0", "1e999", "*", "[", "{}",
    "%s%n", "$(id)", "`id`", "|id", "ina3221", "onnxruntime", "tensorrt", "manifest.json", "synthetic://street", "hub:a/b",
]  # fmt: skip
BYTES = [
    b"\0", b"\xff", b"\x7f", b"\x80", b"\r\n", b"-1", b"9" * 20, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"%", b"&a", b"*a",
]  # fmt: skip


def mutate_bytes(draw: random.Random, data: bytes) -> bytes:
    """One to eight flips, cuts, insertions, copies and overwritten integers; now and then another length altogether."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(content) + 1)
        length = draw.choice((1, 1, 2, 4, 8, 64))
        change = draw.randrange(7)
        if change == 0 and content:
            content[min(at, len(content) - 1)] ^= 1 << draw.randrange(8)
        elif change == 1:
            del content[at : at + length]
        elif change == 2:
            content[at:at] = draw.choice(BYTES)
        elif change == 3:
            content[at:at] = content[at : at + length] * draw.choice((1, 2, 50))
        elif change == 4:
            content[at : at + 4] = draw.choice((0, 1, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)).to_bytes(
                4, draw.choice(("little", "big"))
            )
        elif change == 5:
            content[at : at + length] = draw.randbytes(length)
        elif draw.random() < 0.3:
            del content[at:]
    return bytes(content)


def mutate_text(draw: random.Random, text: str) -> str:
    """The same of a text, and words of TEXTS in it."""
    if draw.random() < 0.4:
        at = draw.randrange(len(text) + 1)
        return text[:at] + draw.choice(TEXTS) + text[at + draw.choice((0, 0, 1, 5)) :]
    return mutate_bytes(draw, text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


def mutate_tree(draw: random.Random, tree: Any) -> Any:
    """One to three changes at random places of a tree of dicts and lists, which is changed and returned."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if places:
            node, key = draw.choice(places)
            _change(draw, node, key, tree)
    return tree


def _places(tree: Any) -> Any:
    """Every (container, key) of a tree."""
    left = [tree]
    while left:
        node = left.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            yield node, key
            left.append(node[key])


def _change(draw: random.Random, node: Any, key: Any, tree: Any) -> None:
    change = draw.randrange(9)
    value = node[key]
    if change == 0:
        del node[key]
    elif change == 1:
        node[key] = draw.choice(NUMBERS)
    elif change == 2:
        node[key] = draw.choice(TEXTS)
    elif change == 3 and isinstance(value, int | float):
        node[key] = draw.choice((value + 1, value - 1, -value, value * 2, value * 10**6, value / 3, str(value)))
    elif change == 4 and isinstance(value, str):
        node[key] = mutate_text(draw, value)
    elif change == 5 and isinstance(node, dict):
        node[draw.choice((draw.choice(TEXTS), mutate_text(draw, str(key))))] = value
    elif change == 6 and isinstance(node, list):
        node.extend(node * draw.choice((1, 30)))
    elif change == 7:  # what stands elsewhere in the tree
        other, place = draw.choice(list(_places(tree)))
        node[key] = json.loads(json.dumps(other[place], default=str))
    else:
        node[key] = draw.choice(([], {}, [value], [[[[[]]]]], {"a": value}, [value] * 40))


Mutate = Callable[[random.Random, bytes], bytes]


def mutate_json(draw: random.Random, data: bytes) -> bytes:
    """A JSON document: its tree mostly, its bytes sometimes."""
    if draw.random() < 0.2:
        return mutate_bytes(draw, data)
    return json.dumps(mutate_tree(draw, json.loads(data))).encode()
