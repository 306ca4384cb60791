"""Starts and stops what is tested, on free loopback ports, by process id: RocketMQ's own servers and Gantry's.

Both kinds have the same operations: `start`, `stop` (clean), `kill` (SIGKILL), `close` (whatever still runs), `address`. A store and its ports outlive them, so that one kind can be started
on what another left.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time

import remoting

HERE = os.path.dirname(os.path.abspath(__file__))
READY_S = 60
STOP_S = 60
SMALL_JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-XX:MaxDirectMemorySize=1g"]
# What the broker needs to unmap its files on Java 17.
OPENED = ["--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED"] + [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.nio", "sun.nio.ch", "java.lang", "java.util", "jdk.internal.misc", "sun.security.x509")]


def offsets_on_disk(store):
    """Committed offsets in RocketMQ's file: (topic@group, queue) -> offset. Its integer keys may stand unquoted."""
    path = os.path.join(store, "config", "consumerOffset.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as text:
        quoted = re.sub(r'([{,]\s*)(\d+)\s*:', r'\1"\2":', text.read())
    table = json.loads(quoted or "{}").get("offsetTable", {})
    return {(key, int(queue)): offset for key, queues in table.items() for queue, offset in queues.items()}


def wait_for_offsets(store, dump):
    """Until the committed offsets that a dump names are in the store's file."""
    with open(dump, encoding="utf-8") as text:
        lines = [line.split() for line in text if line.startswith("queue ")]
    named = {(f"{words[1]}@{words[1]}-group", int(words[2])): int(words[8]) for words in lines}
    wait_for("consumer offsets on disk", lambda: named.items() <= offsets_on_disk(store).items(), 30)


def is_free(port, address="127.0.0.1"):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


class Ports:
    """A name server's port and a broker's: the broker also takes the one after its own (replication), RocketMQ's also
    the second one before."""

    taken, lock = set(), threading.Lock()

    def __init__(self):
        for _ in range(200):
            # Below the range from which the system draws ports for outgoing connections.
            base = random.randrange(20_000, 32_000, 5)
            with self.lock:
                if base not in self.taken and all(is_free(port) for port in range(base, base + 5)):
                    self.taken.add(base)  # cases run at once
                    self.namesrv, self.broker = base, base + 3
                    return
        raise RuntimeError("no five free ports in a row")


class Process:
    """A child with its output in a file."""

    def __init__(self, name, command, directory, environment=None):
        self.name = name
        self.log = os.path.join(directory, f"{name}-{int(time.time() * 1000)}.out")
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                          cwd=directory, env=environment)

    def check(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")

    def tail(self, lines=25):
        with open(self.log, "rb") as out:
            # RocketMQ's servers print hundreds of lines about their logging.
            told = [line for line in out.read().splitlines() if b"|-INFO" not in line]
        return b"\n".join(told[-lines:]).decode(errors="replace")

    def stop(self):
        """A clean stop; a process that does not heed it fails the case."""
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} did not stop within {STOP_S} s of SIGTERM:\n{self.tail()}") from None

    def kill(self):
        self.child.kill()
        self.child.wait()


def wait_for(what, condition, limit_s, process=None):
    end = time.monotonic() + limit_s
    last = None
    while True:
        if process:
            process.check()
        try:
            if condition():
                return
        except (OSError, ValueError, KeyError) as error:
            last = error
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {limit_s} s ({last})")
        time.sleep(0.05)


def is_answering(address):
    return remoting.call(address, 105, {"topic": "TBW102"})["code"] in (0, 17)


def creator(address):
    """The broker that creates topics, as the name server at an address knows it; None when there is none."""
    reply = remoting.call(address, 105, {"topic": "TBW102", "acceptStandardJsonOnly": "true"})
    brokers = json.loads(reply["body"])["brokerDatas"] if reply["code"] == 0 else []
    return brokers[0] if brokers else None


def has_route(address, broker_id=0):
    broker = creator(address)
    return broker is not None and str(broker_id) in broker["brokerAddrs"]


def broker_properties(store, ports, bind="127.0.0.1"):
    """A broker's settings that both kinds take."""
    return {
        "brokerClusterName": "DefaultCluster", "brokerName": "broker-a", "brokerId": 0, "brokerIP1": "127.0.0.1", "brokerIP2": "127.0.0.1",
        "bindAddress": bind, "listenPort": ports.broker, "haListenPort": ports.broker + 1,
        "storePathRootDir": store, "storePathCommitLog": os.path.join(store, "commitlog"),
        "diskMaxUsedSpaceRatio": 95,
        # The threads that bring popped messages back sleep for longer and longer; a clean stop waits for them.
        "reviveInterval": 200, "reviveMaxSlow": 1,
        # Else a burst of senders at a JVM that is still cold is refused for waiting 200 ms.
        "waitTimeMillsInSendQueue": 5000}


def write_properties(directory, name, properties):
    path = os.path.join(directory, name + ".conf")
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(f"{key}={value}\n" for key, value in properties.items())
    return path


def java(name, main, directory, classpath, conf, jvm=()):
    """One of RocketMQ's servers, with its home below `directory`."""
    home = os.path.join(directory, "home")
    os.makedirs(os.path.join(home, "conf"), exist_ok=True)
    # Without TLS no certificates are made at start, which takes seconds and leaves them in the temporary folder.
    command = ["java", *SMALL_JVM, *OPENED, f"-Duser.home={home}", f"-Djava.io.tmpdir={home}", "-Dtls.server.mode=disabled", *jvm, "-cp", classpath, main, "-c", conf]
    return Process(name, command, directory, {**os.environ, "ROCKETMQ_HOME": home})


class JavaServers:
    """RocketMQ 5.5.0: a name server that stays (unless `namesrv` is the address of another), and a broker that comes and goes.

    Both tell others to find them at 127.0.0.1; with another `bind` something that listens there must pass it on.
    """

    kind = "java"

    def __init__(self, directory, store, ports, classpath, settings=None, jvm=(), bind="127.0.0.1", namesrv=None):
        self.directory, self.store, self.ports, self.bind = directory, store, ports, bind
        self.other_namesrv = namesrv
        self.classpath, self.settings, self.jvm = classpath, settings or {}, list(jvm)
        self.namesrv = self.broker = None
        os.makedirs(store, exist_ok=True)

    def address(self):
        return self.other_namesrv or f"127.0.0.1:{self.ports.namesrv}"

    def start(self):
        if self.namesrv is None and not self.other_namesrv:
            self.namesrv = self.launch("namesrv", "org.apache.rocketmq.namesrv.NamesrvStartup", {
                "listenPort": self.ports.namesrv, "bindAddress": self.bind})
            # A broker that misses its first registration tries again 10 s later.
            wait_for("the name server", lambda: is_answering((self.bind, self.ports.namesrv)), READY_S, self.namesrv)
        self.broker = self.launch("broker", "org.apache.rocketmq.broker.BrokerStartup", {
            **broker_properties(self.store, self.ports, self.bind), "namesrvAddr": self.address(), **self.settings})
        wait_for("the broker in the route table", self.is_registered, READY_S, self.broker)

    def is_registered(self):
        """Whether clients can find the broker; until then it is asked to register.

        Its own first registration often goes nowhere, because its connection to the name server is not up yet, and
        the next one comes 10 s later. A change of its permission makes it register at once.
        """
        host, port = self.other_namesrv.split(":") if self.other_namesrv else (self.bind, self.ports.namesrv)
        if has_route((host, int(port)), self.settings.get("brokerId", 0)):
            return True
        remoting.call((self.bind, self.ports.broker), 25, {}, b"brokerPermission=6")
        return False

    def launch(self, name, main, properties):
        return java(name, main, self.directory, self.classpath, write_properties(self.directory, name, properties), self.jvm)

    def stop(self):
        self.broker.stop()
        self.broker = None

    def kill(self):
        self.broker.kill()
        self.broker = None

    def close(self):
        for process in (self.broker, self.namesrv):
            if process:
                process.kill()
        self.broker = self.namesrv = None

    def tails(self):
        return [process for process in (self.broker, self.namesrv) if process]


class GantryServers:
    """Gantry's name server and broker, one process."""

    kind = "gantry"

    def __init__(self, directory, store, ports, binary, settings=None):
        self.directory, self.store, self.ports = directory, store, ports
        self.binary, self.arguments = binary, list(settings or ())
        self.process = None

    def address(self):
        return f"127.0.0.1:{self.ports.namesrv}"

    def start(self):
        self.process = Process("gantry", [
            self.binary, "standalone", "--data", self.store, "--listen", "127.0.0.1", "--namesrv-port",
            str(self.ports.namesrv), "--broker-port", str(self.ports.broker), *self.arguments], self.directory)
        wait_for("the broker in the route table", lambda: has_route(("127.0.0.1", self.ports.namesrv)), READY_S, self.process)

    def stop(self):
        self.process.stop()
        code, self.process = self.process.child.returncode, None
        if code != 0:
            raise RuntimeError(f"a clean stop ended with {code}")

    def kill(self):
        self.process.kill()
        self.process = None

    def close(self):
        if self.process:
            self.process.kill()
        self.process = None

    def tails(self):
        return [self.process] if self.process else []
