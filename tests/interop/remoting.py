"""RocketMQ remoting frames, as little as the harness and the golden capture need: no client, no state.

A frame is length (4), header type and length (1 + 3), header, body; the header is JSON or RocketMQ's binary form.
"""

import json
import socket
import struct

LANGUAGES = ["JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST",
             "NODE_JS"]
FRAME_BYTES_MAX = 16 * 1024 * 1024


def request(code, ext, body=b"", opaque=1):
    """The bytes of a request with a JSON header."""
    header = json.dumps({"code": code, "extFields": ext, "flag": 0, "language": "JAVA", "opaque": opaque,
                         "serializeTypeCurrentRPC": "JSON", "version": 513}).encode()
    return struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body


def split(buffer):
    """The complete frames at the beginning of `buffer`, and how many bytes they take."""
    frames, at = [], 0
    while len(buffer) - at >= 4:
        length = struct.unpack_from(">I", buffer, at)[0]
        if length > FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {length} bytes")
        if len(buffer) - at - 4 < length:
            break
        frames.append(bytes(buffer[at:at + 4 + length]))
        at += 4 + length
    return frames, at


def parse(frame):
    """A frame's header as a dict (the names of the JSON form, whichever form it had), with `serialize` and `body`."""
    word = struct.unpack_from(">I", frame, 4)[0]
    header_length = word & 0xFFFFFF
    header, body = frame[8:8 + header_length], frame[8 + header_length:]
    if word >> 24 == 0:
        fields = json.loads(header)
        fields["serialize"] = "JSON"
    else:
        fields = parse_binary(header)
    fields["body"] = body
    return fields


def parse_binary(header):
    code, language, version, opaque, flag, remark_length = struct.unpack_from(">hBhiii", header)
    at = 17
    remark = header[at:at + remark_length].decode()
    at += remark_length
    ext_length = struct.unpack_from(">i", header, at)[0]
    at += 4
    end, ext = at + ext_length, {}
    while at < end:
        key_length = struct.unpack_from(">h", header, at)[0]
        key = header[at + 2:at + 2 + key_length].decode()
        at += 2 + key_length
        value_length = struct.unpack_from(">i", header, at)[0]
        ext[key] = header[at + 4:at + 4 + value_length].decode()
        at += 4 + value_length
    fields = {"code": code, "language": LANGUAGES[language], "version": version, "opaque": opaque, "flag": flag,
              "serialize": "ROCKETMQ"}
    if remark:
        fields["remark"] = remark
    if ext:
        fields["extFields"] = ext
    return fields


def call(address, code, ext, body=b"", timeout_s=15):
    """Sends one request to an address over a connection of its own; the parsed reply. A change waits for an fsync, which a busy disk makes long."""
    with socket.create_connection(address, timeout=timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(request(code, ext, body))
        buffer = bytearray()
        while True:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError(f"closed before a reply to {code}")
            buffer += data
            frames, _ = split(buffer)
            if frames:
                return parse(frames[0])
