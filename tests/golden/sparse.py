"""Store directories without their zeros: Java's files are preallocated, up to 1 GiB for a few records.

    python3 sparse.py FOLDER STORE        lays the packed store FOLDER out as the directory STORE

A packed store is a folder with `index.json` and the data. For each file `index.json` says its size and its runs, offset
and length, of bytes that are not all zero; the file of the same path holds the runs' bytes one after the other. A run
ends where `GAP` zeros in a row begin. `records.json` lists what lies in the commit log, as an independent reader sees it.
"""

import json
import os
import shutil
import struct
import sys

GAP = 64
PAGE = 4096
# Locks, and an engine that is never used.
LEFT_OUT = ("lock", "rocksdbstore", "commitlog_rocksdb")


def runs_of(path):
    """(offset, bytes) of what is not zero; holes of the file are not read."""
    size, at, runs = os.path.getsize(path), 0, []
    with open(path, "rb") as file:
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole to the end
                break
            at -= at % PAGE
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            file.seek(at)
            for offset, data in split(file.read(end - at)):
                if runs and at + offset - (runs[-1][0] + len(runs[-1][1])) < GAP:
                    start, before = runs.pop()
                    data = before + bytes(at + offset - start - len(before)) + data
                    offset = start - at
                runs.append((at + offset, data))
            at = end
    return size, runs


def split(data):
    zeros, at = bytes(GAP), 0
    while at < len(data):
        if data[at] == 0:
            rest = data[at:].lstrip(b"\0")
            at = len(data) - len(rest)
            continue
        end = data.find(zeros, at)
        end = len(data) if end < 0 else end
        piece = data[at:end].rstrip(b"\0")
        yield at, piece
        at += len(piece)


def pack(store, folder):
    """Packs a store directory into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    index = []
    for directory, names, files in os.walk(store):
        names[:] = sorted(name for name in names if name not in LEFT_OUT)
        for name in sorted(files):
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, store)
            if name in LEFT_OUT or name.endswith(".bak"):
                continue
            size, runs = runs_of(path)
            index.append({"path": relative, "size": size, "runs": [[offset, len(data)] for offset, data in runs]})
            if runs:
                target = os.path.join(folder, relative)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as out:
                    out.write(b"".join(data for _, data in runs))
    with open(os.path.join(folder, "index.json"), "w", encoding="utf-8") as out:
        out.write("[\n" + ",\n".join(json.dumps(row) for row in index) + "\n]\n")


def unpack(folder, store):
    """Lays a packed store out again, holes included."""
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as text:
        index = json.load(text)
    for row in index:
        target = os.path.join(store, row["path"])
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as out:
            out.truncate(row["size"])
            if not row["runs"]:
                continue
            with open(os.path.join(folder, row["path"]), "rb") as data:
                for offset, length in row["runs"]:
                    out.seek(offset)
                    out.write(data.read(length))


def records_of(data):
    """The records of a commit log that begins with `data` (IPv4 hosts, short topics), a dict each."""
    at = 0
    while at + 88 <= len(data):
        size, magic, crc, queue, flag, queue_offset, physical, sys_flag, born = struct.unpack_from(">IIIiiqqiq", data, at)
        stored, = struct.unpack_from(">q", data, at + 56)
        again, prepared, body = struct.unpack_from(">iqi", data, at + 72)
        if magic != 0xDAA320A7:
            return
        topic_at = at + 88 + body
        topic_end = topic_at + 1 + data[topic_at]
        length, = struct.unpack_from(">h", data, topic_end)
        yield {"physical_offset": physical, "size": size, "body_crc": crc, "topic": data[topic_at + 1:topic_end].decode(),
               "queue_id": queue, "queue_offset": queue_offset, "flag": flag, "sys_flag": sys_flag,
               "born_timestamp": born, "store_timestamp": stored, "reconsume_times": again,
               "prepared_transaction_offset": prepared, "body_bytes": body,
               "properties": data[topic_end + 2:topic_end + 2 + length].decode()}
        at += size


def write_records(store, folder):
    """Lists the records of a store's first commit-log file beside its packed form."""
    with open(os.path.join(store, "commitlog", "0" * 20), "rb") as log:
        data = log.read(1 << 20)
    with open(os.path.join(folder, "records.json"), "w", encoding="utf-8") as out:
        out.write("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in records_of(data)) + "\n]\n")


if __name__ == "__main__":
    unpack(*sys.argv[1:])
