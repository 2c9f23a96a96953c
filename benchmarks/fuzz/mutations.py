"""Damage to files: bytes, numbers in headers, JSON, cells of tables, words of text."""

import copy
import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[bytes, Random], bytes]

_INTEGERS = (0, 1, -1, 2, 7, 127, 255, 256, 348, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**62)
_FLOATS = (0.0, -0.0, 1e-45, 1e-12, 1e-4, 1e4, 1e12, 1e30, 3e38, float("nan"), float("inf"), -1.0)
_WORDS = (
    *("0", "-1", "1_000", "1e999", "-inf", "nan", "NaN", "1e30", "1e-30", "0x10", "9" * 400),
    *("", " ", "\t", "\n", '"', "'", "\0", "\x1b[31m", "[/red]", "[bold]", "{}", "%s", "../../x"),
    *("a" * 300, "\u0663", "\u200b", "\ud7ff", "true", "null", "/dev/null", "1 2 3", "-0", "1e5"),
)
_NOT_UTF8 = (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xfe\xff")


def damage_bytes(data: bytes, random: Random) -> bytes:
    """Flip bits, overwrite, cut, repeat or exchange parts."""
    content = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        if not content:
            break
        place, kind = random.randrange(len(content)), random.randrange(7)
        end = min(len(content), place + random.choice((1, 2, 4, 8, 64, 1024)))
        if kind < 2:
            content[place] ^= 1 << random.randrange(8)
        elif kind == 2:
            content[place:end] = random.choice((b"\0", b"\xff")) * (end - place)
        elif kind == 3:
            del content[place:end]
        elif kind == 4:
            del content[place:]
        elif kind == 5:
            content[place:place] = content[place:end] * random.choice((1, 3, 50))
        else:
            other = random.randrange(len(content))
            content[place:end] = content[other : other + end - place]
    return bytes(content)


def damage_numbers(first: int) -> Mutation:
    """Return a mutation that sets aligned numbers in the first bytes of a file to extremes."""

    def mutate(data: bytes, random: Random) -> bytes:
        content = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 3, 6))):
            form = random.choice("hHiIqfffd")
            size = struct.calcsize(form)
            places = range(0, max(1, min(first, len(content)) - size), min(size, 4))
            values = _FLOATS if form in "fd" else _INTEGERS
            try:
                packed = struct.pack(random.choice("<>") + form, random.choice(values))
            except (struct.error, OverflowError):
                continue
            place = random.choice(places)
            content[place : place + size] = packed
        return bytes(content)

    return mutate


def inside_gzip(mutation: Mutation) -> Mutation:
    """Return a mutation of what is compressed; sometimes of the compressed bytes."""

    def mutate(data: bytes, random: Random) -> bytes:
        if random.random() < 0.15:
            return damage_bytes(data, random)
        return gzip.compress(mutation(gzip.decompress(data), random), 1, mtime=0)

    return mutate


def damage_json(data: bytes, random: Random) -> bytes:
    """Change types, keys and nesting of JSON, or its bytes."""
    kind = random.random()
    if kind < 0.12:
        return damage_text(data, random)
    content = copy.deepcopy(json.loads(data))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = _changed(content, random)
    text = json.dumps(content)
    if kind > 0.97:  # Python does not write integers of more than 4300 digits
        text = re.sub(r"\d+", "9" * 5000, text, count=1)
    elif kind > 0.94:
        depth = random.choice((60, 900, 100_000))
        text = text.replace(":", ":" + "[" * depth, 1) + "]" * random.choice((0, depth))
    return text.encode("utf-8", "surrogatepass" if kind < 0.5 else "replace")


def _changed(content: Any, random: Random) -> Any:
    """Return JSON in which one value, or one key, is another."""
    nodes = list(_containers(content))
    if not nodes:
        return _odd(random)
    node = random.choice(nodes)
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    if not keys:
        return content
    key = random.choice(keys)
    kind = random.randrange(8)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[random.choice(_WORDS)] = node.pop(key)
    elif kind == 2 and isinstance(node, list):
        node += node * random.choice((1, 40))
    elif kind == 3:
        node[key] = copy.deepcopy(random.choice(nodes))
    else:
        node[key] = _odd(random)
    return content


def _containers(content: Any) -> Any:
    if isinstance(content, dict | list) and content:
        yield content
        for value in content.values() if isinstance(content, dict) else content:
            yield from _containers(value)


def _odd(random: Random) -> Any:
    """Return a value of any type."""
    nested: Any = []
    for _ in range(random.choice((1, 3, 30, 300))):
        nested = [nested] if random.random() < 0.5 else {"a": nested}
    return random.choice(
        (
            *(None, True, False, 0, -1, 1, 3, 1e308, -1e30, 1e-300, 0.5, 2**31, 2**63, 10**30),
            *(float("nan"), float("inf"), [], {}, [1], ["a"], {"a": 1}, [[1, 2], [3]], nested),
            *(random.choice(_WORDS), random.choice(_WORDS), "\ud800", [None] * 3, [1e400] * 4),
        )
    )


def damage_table(separator: str) -> Mutation:
    """Return a mutation of the cells of a table, or of its bytes."""

    def mutate(data: bytes, random: Random) -> bytes:
        if random.random() < 0.25:
            return damage_text(data, random)
        rows = [line.split(separator) for line in data.decode().splitlines()]
        for _ in range(random.choice((1, 1, 2, 5))):
            row = random.choice(rows)
            kind = random.randrange(6)
            if kind == 0:
                row.append(random.choice(_WORDS))
            elif kind == 1 and len(row) > 1:
                row.pop()
            elif kind == 2:
                rows.insert(random.randrange(len(rows) + 1), list(random.choice(rows)))
            elif row:
                row[random.randrange(len(row))] = random.choice(_WORDS)
        return "\n".join(separator.join(row) for row in rows).encode("utf-8", "replace")

    return mutate


def damage_text(data: bytes, random: Random) -> bytes:
    """Exchange words or numbers of a text, or damage its bytes."""
    if random.random() < 0.3:
        return damage_bytes(data, random)
    for _ in range(random.choice((1, 1, 2, 4))):
        words = list(re.finditer(rb"[A-Za-z0-9_.+-]+", data))
        if not words:
            break
        word = random.choice(words)
        odd = random.choice(_WORDS).encode("utf-8", "replace")
        if random.random() < 0.1:
            odd = random.choice(_NOT_UTF8)
        data = data[: word.start()] + odd + data[word.end() :]
    return data


def damage_nested_json(data: bytes, random: Random) -> bytes:
    """Damage JSON somewhere in a gzipped file, whose length in bytes is kept."""
    content = gzip.decompress(data)
    start = content.find(b"{")
    end = content.rfind(b"}", start, start + 8192) + 1
    if start < 0 or random.random() < 0.4:
        return inside_gzip(damage_numbers(512))(data, random)
    changed = damage_json(content[start:end], random)[: end - start].ljust(end - start)
    return gzip.compress(content[:start] + changed + content[end:], 1, mtime=0)


def damage_compressed_xml(data: bytes, random: Random) -> bytes:
    """Damage the text of XML, or put in other compressed data."""
    if random.random() < 0.1:
        import base64

        packed = base64.b64encode(zlib.compress(random.randbytes(random.choice((0, 12, 4000)))))
        return re.sub(rb"<Data>[^<]*</Data>", b"<Data>" + packed + b"</Data>", data, count=1)
    return damage_text(data, random)
