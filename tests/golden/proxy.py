"""Stands between clients and servers of RocketMQ and remembers every frame that passes, unchanged."""

import socket
import sys
import threading
import time

import remoting


class Recorder:
    """All frames in the order in which they passed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.start = time.monotonic()
        self.frames = []

    def add(self, frame, server, connection, to_server):
        with self.lock:
            self.frames.append({"at_ms": int((time.monotonic() - self.start) * 1000), "server": server,
                                "connection": connection, "to_server": to_server, "frame": frame})


class Proxy:
    """Listens at `listen` and passes each connection on to `forward`; `server` names what is behind it."""

    def __init__(self, recorder, server, listen, forward):
        self.recorder, self.server, self.forward = recorder, server, forward
        self.connections = 0
        self.listener = socket.create_server(listen)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.forward)
            except OSError:
                client.close()
                continue
            self.connections += 1
            for source, sink, to_server in ((client, server, True), (server, client, False)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.pump, args=(source, sink, self.connections, to_server), daemon=True).start()

    def pump(self, source, sink, connection, to_server):
        buffer = bytearray()
        try:
            while data := source.recv(65536):
                buffer += data
                # Noted before it is passed on, so that a request stands before its answer.
                frames, taken = remoting.split(buffer)
                for frame in frames:
                    self.recorder.add(frame, self.server, connection, to_server)
                del buffer[:taken]
                sink.sendall(data)
        except (OSError, ValueError) as error:
            print(f"{self.server} connection {connection}: {error}", file=sys.stderr)
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()
