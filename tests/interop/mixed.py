"""A cluster whose servers are replaced by those of the other kind, one process at a time, while clients use it.

Two name servers and two brokers, one of each kind at first. `across` is the program that stays up all the while.
"""

import difflib
import json
import os
import re

import mqadmin
import nodes
import programs
import remoting
import servers

TOPIC, QUEUES = "Across", 4
# As often as clients look at their queues by themselves; by default every 20 s.
JVM = ["-Drocketmq.client.rebalance.waitInterval=2000"]
PROGRESS = 150
PROGRESS_S = 90
# What is asked of both name servers by mqadmin.
COMMANDS = {
    "clusterList": "clusterList -n {}", "clusterList-more": "clusterList -n {} -m", "topicList": "topicList -n {}", "topicList-cluster": "topicList -n {} -c",
    "topicRoute": f"topicRoute -n {{}} -t {TOPIC}", "topicRoute-list": f"topicRoute -n {{}} -t {TOPIC} -l", "topicRoute-missing": "topicRoute -n {} -t Missing",
    "topicClusterList": f"topicClusterList -n {{}} -t {TOPIC}",
    "consumerConnection": f"consumerConnection -n {{}} -g {TOPIC}-group",
    "updateOrderConf": f"updateOrderConf -n {{}} -t {TOPIC} -m get", "wipeWritePerm": "wipeWritePerm -n {} -b nobody"}


class Cluster:
    """The four servers, and the clients."""

    def __init__(self, context):
        self.context, self.directory = context, context.folder("mixed")
        target = context.options.target
        self.kinds = {"java": "java", "other": target}
        self.namesrvs = {name: nodes.Namesrv(context, f"namesrv-{name}") for name in self.kinds}
        # At first each broker has only the name server of the other kind.
        self.brokers = {name: nodes.Broker(context, f"broker-{name}", [self.namesrvs[under]]) for name, under in (("java", "other"), ("other", "java"))}
        self.clients = None
        self.acked, self.status, self.until = (os.path.join(self.directory, name) for name in ("acked.txt", "status.txt", "until"))

    def both(self):
        return ";".join(namesrv.address for namesrv in self.namesrvs.values())

    def servers(self):
        return [*self.namesrvs.values(), *self.brokers.values()]

    def tails(self):
        return [process for server in self.servers() for process in server.tails()]

    def close(self):
        if self.clients and self.clients.child.poll() is None:
            self.clients.kill()
        for server in self.servers():
            server.close()

    def start(self):
        for name, kind in self.kinds.items():
            self.namesrvs[name].start(kind)
        for name, kind in self.kinds.items():
            self.brokers[name].start(kind)

    def under_other(self, name):
        """All that a client does with a broker of one kind that it finds by a name server of the other kind."""
        words = ["send-receive", "--namesrv", self.namesrvs[name].address, "--prefix", f"Under-{name}", "--count", "200"]
        return programs.run("5.5.0", self.directory, words)

    def start_clients(self):
        """Each store goes to the other kind, both brokers to both name servers; then clients come."""
        for name, broker in self.brokers.items():
            broker.stop()
            broker.under(list(self.namesrvs.values()))
            broker.start(self.kinds["other" if name == "java" else "java"])
            for topic in (TOPIC, f"{TOPIC}-delayed"):
                broker.create_topic(topic, QUEUES)
        self.clients = servers.Process("across", programs.command("5.5.0", self.directory, [
            "across", "--namesrv", self.both(), "--topic", TOPIC, "--queues", str(QUEUES * len(self.brokers)), "--acked", self.acked, "--status", self.status,
            "--until", self.until], JVM), self.directory)
        return self.goes_on()

    def counts(self):
        if not os.path.exists(self.status):
            return {}
        with open(self.status, encoding="utf-8") as text:
            return {(what, where): int(count) for what, where, count in (line.split() for line in text)}

    def goes_on(self):
        """Until both brokers have taken and handed out more of everything, and the group shares the queues of both."""
        before = self.counts()
        wanted = {("divided", "-"): 1}
        for broker in self.brokers:
            for what, more in (("acked", PROGRESS), ("seen", PROGRESS), ("delayed", 3), ("retried", 3)):
                key = (what, f"broker-{broker}")
                wanted[key] = before.get(key, 0) + more
        missing = {}

        def is_there():
            nonlocal missing
            now = self.counts()
            missing = {key: (now.get(key, 0), count) for key, count in wanted.items() if now.get(key, 0) < count}
            return not missing

        try:
            servers.wait_for("the clients to go on with both brokers", is_there, PROGRESS_S, self.clients)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; has and wants: {missing}") from None
        return ""

    def swap(self, server, kind, killed=False):
        """Replaces a server while clients use the cluster."""
        (server.kill if killed else server.stop)()
        server.start(kind)
        if server.role == "namesrv":
            for broker in self.brokers.values():
                servers.wait_for(f"{broker.name} at {server.name}", lambda broker=broker: broker.is_registered([server]), servers.READY_S, server.process)
        return self.goes_on()

    def end(self):
        open(self.until, "wb").close()
        self.clients.child.wait(programs.PROGRAM_S)
        if self.clients.child.returncode != 0:
            raise RuntimeError(f"ended with {self.clients.child.returncode}\n{self.clients.tail(40)}")
        return self.clients.tail()

    def read_back(self):
        return programs.run("5.5.0", self.directory, ["read-back", "--namesrv", self.both(), "--topic", TOPIC, "--acked", self.acked])


def replies(namesrv):
    """What a name server says, without the order of what has none."""
    found = {}
    for name, code, ext in (
            ("route", 105, {"topic": TOPIC, "acceptStandardJsonOnly": "true"}), ("route of all", 105, {"topic": "TBW102", "acceptStandardJsonOnly": "true"}),
            ("retries", 105, {"topic": f"%RETRY%{TOPIC}-group", "acceptStandardJsonOnly": "true"}), ("missing", 105, {"topic": "Missing"}),
            ("topics", 206, {}), ("topics of the cluster", 224, {"cluster": "DefaultCluster"}), ("topics of the system", 304, {}), ("unit", 311, {}),
            ("no key", 101, {"namespace": "ORDER_TOPIC_CONFIG", "key": "none"})):
        reply = remoting.call(namesrv.place, code, ext)
        found[name] = (reply["code"], reply.get("remark") if reply["code"] else None, ordered(json.loads(reply["body"])) if reply["body"] else None)
    return found


def ordered(value):
    if isinstance(value, dict):
        return {key: ordered(one) for key, one in sorted(value.items())}
    if isinstance(value, list):
        return sorted((ordered(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
    return value


def same_answers(cluster):
    """Both name servers say the same of the same cluster, to programs and to people."""
    one, other = (cluster.namesrvs[name] for name in ("java", "other"))
    wrong, told = [], {}

    def is_same():
        nonlocal told
        told = {namesrv.name: replies(namesrv) for namesrv in (one, other)}
        return told[one.name] == told[other.name]

    try:
        # A change reaches them one after the other.
        servers.wait_for("both name servers to say the same", is_same, 15)
    except RuntimeError:
        wrong = [f"{what}: {told[one.name][what]} and {told[other.name][what]}" for what in told[one.name] if told[one.name][what] != told[other.name][what]]
    script = os.path.join(cluster.directory, "both.txt")
    with open(script, "w", encoding="utf-8") as out:
        for which in ("one", "other"):
            out.writelines(f"{name}@{which}: {command.format('${' + which + '}')}\n" for name, command in COMMANDS.items())
    found = mqadmin.steps(mqadmin.normal(mqadmin.run(script, cluster.directory, {"one": one.address, "other": other.address})))
    for name in COMMANDS:
        # The first command's output has an empty line of the logging's.
        lines = [sorted(re.sub(r"\d+ms", "Nms", line) for line in found[f"{name}@{which}"][1:] if line) for which in ("one", "other")]
        if lines[0] != lines[1]:
            wrong += [f"{name}: {line}" for line in difflib.unified_diff(*lines, lineterm="", n=0) if not line.startswith("@@")]
    if wrong:
        raise RuntimeError(f"{len(wrong)} differences\n" + "\n".join(wrong[:60]))
    return f"  {len(told[one.name])} answers and {len(COMMANDS)} commands of mqadmin"


def case(context):
    """Servers of both kinds in one cluster, each replaced by the other kind while producers and consumers of both stay up."""
    cluster = Cluster(context)
    one, other = cluster.brokers.values()
    mine = context.options.target
    steps = [
        ("start", cluster.start),
        (f"a java broker under the name server of {mine}", lambda: cluster.under_other("other")),
        (f"a broker of {mine} under java's name server", lambda: cluster.under_other("java")),
        ("each broker goes on with the store of the other kind, and clients come", cluster.start_clients),
        ("both name servers say the same", lambda: same_answers(cluster)),
        ("a broker is replaced by java's", lambda: cluster.swap(one, "java")),
        (f"a broker is replaced by one of {mine}", lambda: cluster.swap(other, mine)),
        (f"a broker is killed and replaced by one of {mine}", lambda: cluster.swap(one, mine, killed=True)),
        ("a broker is killed and replaced by java's", lambda: cluster.swap(other, "java", killed=True)),
        (f"a name server is replaced by one of {mine}", lambda: cluster.swap(cluster.namesrvs["java"], mine)),
        ("a name server is replaced by java's", lambda: cluster.swap(cluster.namesrvs["other"], "java")),
        ("nothing is missing in the end", cluster.end),
        ("read back", cluster.read_back),
    ]
    try:
        for name, step in steps:
            if not context.check(f"mixed: {name}", step, cluster):
                return
    finally:
        cluster.close()
