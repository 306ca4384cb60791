"""Name servers and brokers as single processes: each may be of either kind, and of another after its next start.

Both kinds of a server take the same file of settings, which is what a user who swaps the binary has.
"""

import json
import os

import remoting
import servers

JAVA_MAIN = {"namesrv": "org.apache.rocketmq.namesrv.NamesrvStartup", "broker": "org.apache.rocketmq.broker.BrokerStartup"}


class Node:
    """A server with a place of its own: `start` says of which kind it is from then on."""

    role = None

    def __init__(self, context, name, properties):
        self.context, self.name, self.directory = context, name, context.folder(name)
        self.properties, self.process = properties, None

    def start(self, kind):
        path = servers.write_properties(self.directory, self.name, self.properties)
        if kind == "java":
            self.process = servers.java(self.name, JAVA_MAIN[self.role], self.directory, self.context.classpath(), path)
        else:
            # So that its files that no setting places lie here.
            environment = {**os.environ, "HOME": self.directory}
            self.process = servers.Process(self.name, [self.context.options.gantry, self.role, "-c", path], self.directory, environment)
        servers.wait_for(f"{self.name}, {kind}, to be ready", self.is_ready, servers.READY_S, self.process)

    def stop(self):
        process, self.process = self.process, None
        process.stop()

    def kill(self):
        process, self.process = self.process, None
        process.kill()

    def close(self):
        if self.process:
            self.kill()

    def tails(self):
        return [self.process] if self.process else []


class Namesrv(Node):
    """A name server."""

    role = "namesrv"

    def __init__(self, context, name):
        self.port = servers.Ports().namesrv
        self.address, self.place = f"127.0.0.1:{self.port}", ("127.0.0.1", self.port)
        folder = context.folder(name)
        super().__init__(context, name, {"listenPort": self.port, "bindAddress": "127.0.0.1", "kvConfigPath": os.path.join(folder, "kvConfig.json")})

    def is_ready(self):
        return servers.is_answering(self.place)


class Broker(Node):
    """A broker with its store, registered at `namesrvs`; more `settings` are the caller's."""

    role = "broker"

    def __init__(self, context, name, namesrvs, settings=None):
        self.ports = servers.Ports()
        self.place, self.address = ("127.0.0.1", self.ports.broker), f"127.0.0.1:{self.ports.broker}"
        self.store = os.path.join(context.folder(name), "store")
        os.makedirs(self.store, exist_ok=True)
        super().__init__(context, name, {
            **servers.broker_properties(self.store, self.ports), "brokerName": name, "registerNameServerPeriod": 10_000, **(settings or {})})
        self.under(namesrvs)

    def under(self, namesrvs):
        """Registers at these from the next start on."""
        self.namesrvs = namesrvs
        self.properties["namesrvAddr"] = ";".join(namesrv.address for namesrv in namesrvs)

    def is_ready(self):
        return self.call(28)["code"] == 0 and self.is_registered(self.namesrvs)

    def is_registered(self, namesrvs):
        """Whether all of them send clients here; else the broker is asked to register.

        RocketMQ's first registration often goes nowhere, because its connection to the name server is not up yet. A
        change of its permission makes it register at once.
        """
        if all(self.address in addresses_of(namesrv, self.properties["brokerName"]) for namesrv in namesrvs):
            return True
        self.call(25, body=b"brokerPermission=6")
        return False

    def call(self, code, ext=None, body=b""):
        return remoting.call(self.place, code, ext or {}, body)

    def create_topic(self, topic, queues):
        self.check_call(17, {"topic": topic, "defaultTopic": "TBW102", "readQueueNums": queues, "writeQueueNums": queues, "perm": 6,
                             "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "false"})

    def check_call(self, code, ext=None, body=b""):
        reply = self.call(code, ext, body)
        if reply["code"] != 0:
            raise RuntimeError(f"{self.name} answered {code} with {reply['code']}: {reply.get('remark')}")
        return reply


def addresses_of(namesrv, broker):
    """Addresses of a broker's group, as a name server's route of the topic that all brokers have tells them."""
    reply = remoting.call(namesrv.place, 105, {"topic": "TBW102", "acceptStandardJsonOnly": "true"})
    brokers = json.loads(reply["body"])["brokerDatas"] if reply["code"] == 0 else []
    return [address for one in brokers if one["brokerName"] == broker for address in one["brokerAddrs"].values()]
