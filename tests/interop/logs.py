"""Commit logs compared as bytes, from outside."""

import os
import struct

BLANK, MAGICS = 0xCBD43194, (0xDAA320A7, 0xDAA320AB)


def segments(store):
    folder = os.path.join(store, "commitlog")
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.isdigit()) if os.path.isdir(folder) else []


def end(store):
    """Where the log ends: behind the last record that follows on from the first without a gap."""
    position = 0
    for path in segments(store):
        start, size = int(os.path.basename(path)), os.path.getsize(path)
        if start > position and position:
            break
        position = start
        with open(path, "rb") as log:
            while position + 8 <= start + size:
                log.seek(position - start)
                length, magic = struct.unpack(">II", log.read(8))
                if magic == BLANK:
                    position = start + size
                    break
                if magic not in MAGICS or length == 0:
                    return position
                position += length
    return position


def differ(one, other):
    """The first position at which two stores' logs are not the same bytes, up to the end of the first; None when they are."""
    limit, others = end(one), {os.path.basename(path): path for path in segments(other)}
    for path in segments(one):
        start = int(os.path.basename(path))
        if start >= limit:
            break
        if os.path.basename(path) not in others:
            return start
        length = min(limit - start, os.path.getsize(path))
        with open(path, "rb") as log, open(others[os.path.basename(path)], "rb") as same:
            for at in range(0, length, 1 << 20):
                piece = min(1 << 20, length - at)
                mine, its = log.read(piece), same.read(piece)
                if mine != its:
                    return start + at + next((i for i, (a, b) in enumerate(zip(mine, its)) if a != b), len(its))
    return None
