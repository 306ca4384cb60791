"""Masters and slaves of both kinds: logs that are the same bytes, tables that follow, and a slave that takes the master's place."""

import concurrent.futures
import json
import os
import re

import logs
import nodes
import programs
import servers

GROUP = "broker-a"
SYNC_S = 90
# What a slave asks its master for every few seconds: code, and the table in the answer.
TABLES = {"topics": (21, "topicConfigTable"), "groups": (201, "subscriptionGroupTable"), "offsets": (43, "offsetTable"), "delays": (45, "offsetTable")}


class Pair:
    """A master and a slave of a group, and their name server."""

    def __init__(self, context, name, kinds, settings=None):
        self.context, self.kinds, self.directory = context, kinds, context.folder(name)
        self.namesrv = nodes.Namesrv(context, f"{name}-namesrv")
        self.master, self.slave = (nodes.Broker(context, f"{name}-{role}", [self.namesrv], {"brokerName": GROUP, **(settings or {})}) for role in ("master", "slave"))
        # By default RocketMQ's slaves serve nobody.
        self.slave.properties.update(brokerRole="SLAVE", brokerId=1, slaveReadEnable="true")

    def start(self):
        self.namesrv.start(self.context.options.target)
        self.master.start(self.kinds[0])
        self.slave.start(self.kinds[1])

    def run(self, *words):
        """Programs of the stock client, `--` between several; each finds its name server."""
        line = []
        for word in words:
            line += [word, "--namesrv", self.namesrv.address] if word in ("store-produce", "store-dump", "store-continue", "read-back") else [word]
        return programs.run("5.5.0", self.directory, line)

    def same_log(self):
        """Until the slave has the master's log."""
        servers.wait_for("the slave's log to be the master's", lambda: logs.differ(self.master.store, self.slave.store) is None, SYNC_S, self.slave.process)
        return f"  {logs.end(self.master.store)} bytes"

    def same_tables(self):
        """Until the slave has the master's tables. One of RocketMQ's asks for them every minute."""
        differing = {}

        def is_same():
            differing.clear()
            for name in TABLES:
                mine, its = (table(broker, name) for broker in (self.master, self.slave))
                if mine != its:
                    differing[name] = {key: (mine.get(key), its.get(key)) for key in {*mine, *its} if mine.get(key) != its.get(key)}
            return not differing

        try:
            servers.wait_for("the slave's tables to be the master's", is_same, SYNC_S, self.slave.process)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; the master has, and the slave: {differing}") from None
        sizes = ", ".join(f"{len(table(self.slave, name))} {name}" for name in TABLES)
        return f"  {sizes}"

    def tails(self):
        return [process for node in (self.namesrv, self.master, self.slave) for process in node.tails()]

    def close(self):
        for node in (self.master, self.slave, self.namesrv):
            node.close()


def table(broker, name):
    """One of a broker's tables, as its slaves are told it. Integer keys may stand unquoted in it."""
    code, field = TABLES[name]
    body = broker.check_call(code)["body"].decode()
    return json.loads(re.sub(r"([{,]\s*)(\d+)\s*:", r'\1"\2":', body))[field]


def case(context):
    """RocketMQ's broker as the target's slave, then as its master: same logs and tables; the slave serves when the master is dead."""
    mine = context.options.target
    with concurrent.futures.ThreadPoolExecutor() as directions:  # most of their time is waiting
        for done in [directions.submit(follow, context, name, kinds) for name, kinds in (("replication-out", (mine, "java")), ("replication-in", ("java", mine)))]:
            done.result()


def follow(context, name, kinds):
    pair = Pair(context, name, kinds)
    what = f"{kinds[1]} behind {kinds[0]}"
    dump = os.path.join(pair.directory, "dump.txt")

    def produce(number):
        pair.run("store-produce", "--from", str(number * 1_000), "--count", "1500", "--delayed", "5", "--", "store-dump", "--out", dump)
        return pair.same_log()

    def first():
        pair.start()
        pair.master.check_call(200, body=json.dumps({"groupName": "Made", "retryMaxTimes": 3, "consumeEnable": True, "brokerId": 0}).encode())
        pair.master.create_topic("Made", 3)
        return produce(0) + "\n" + pair.same_tables()

    def without_master():
        servers.wait_for_offsets(pair.master.store, dump)  # Java forgets the commits of its last seconds
        pair.master.kill()
        servers.wait_for("the master to be gone", lambda: nodes.addresses_of(pair.namesrv, GROUP) == [pair.slave.address], servers.READY_S)
        before = table(pair.slave, "offsets")
        text = pair.run("store-continue")
        if table(pair.slave, "offsets") == before:
            raise RuntimeError("nothing was committed at the slave")
        return text

    def come_home():
        committed = table(pair.slave, "offsets")
        pair.master.start(kinds[0])
        if kinds[1] != "java":  # one of RocketMQ's forgets them
            servers.wait_for("the slave's offsets at the master", lambda: table(pair.master, "offsets") == committed, SYNC_S, pair.slave.process)
        return produce(2)

    try:
        if (context.check(f"replication: {what}, the same log and the same tables", first, pair)
                and context.check(f"replication: {what}, consumers go on when the master is dead", without_master, pair)):
            context.check(f"replication: {what}, offsets come home to a master that comes back", come_home, pair)
    finally:
        pair.close()


class Senders:
    """64 threads of a stock client that send to a pair, and a consumer beside them, through all that happens to it."""

    def __init__(self, pair):
        self.pair, self.process = pair, None
        self.acked, self.until = (os.path.join(pair.directory, name) for name in ("acked.txt", "until"))

    def start(self):
        self.pair.start()
        words = ["durable", "--namesrv", self.pair.namesrv.address, "--acked", self.acked, "--until", self.until, "--threads", "64", "--commits", "no",
                 "--route-ms", "1000"]
        self.process = servers.Process("durable", programs.command("5.5.0", self.pair.directory, words), self.pair.directory)
        self.go_on()

    def go_on(self):
        already = programs.acknowledged(self.acked)
        servers.wait_for("3000 more messages acknowledged", lambda: programs.acknowledged(self.acked) >= already + 3_000, 60, self.process)

    def end(self):
        open(self.until, "wb").close()
        self.process.child.wait(programs.PROGRAM_S)
        if self.process.child.returncode != 0:
            raise RuntimeError(f"ended with {self.process.child.returncode}\n{self.process.tail(40)}")
        return self.process.tail()

    def read_back(self):
        return self.pair.run("read-back", "--acked", self.acked)

    def close(self):
        if self.process and self.process.child.poll() is None:
            self.process.kill()
        self.pair.close()


# An acknowledged message is on both: RocketMQ 5 counts the master.
SYNC = {"brokerRole": "SYNC_MASTER", "inSyncReplicas": 2}


def failover(context):
    """A synchronous master is killed under 64 senders and its slave takes its place; between two of the target, and from RocketMQ's."""
    mine = context.options.target
    change_places(context, mine)
    take_over(context, mine)


def change_places(context, mine):
    pair = Pair(context, "failover", (mine, mine), SYNC)
    senders = Senders(pair)

    def change():
        pair.master.kill()
        pair.slave.stop()
        pair.master, pair.slave = pair.slave, pair.master
        pair.master.properties.update(brokerRole="SYNC_MASTER", brokerId=0)
        pair.slave.properties.update(brokerRole="SLAVE", brokerId=1)
        pair.master.start(mine)
        # What the dead master had and nobody else does was never acknowledged; it gives way.
        pair.slave.start(mine)
        senders.go_on()

    def end():
        return "\n".join((senders.end(), pair.same_log(), pair.same_tables()))

    try:
        if (context.check("failover: 64 senders and a synchronous master", senders.start, pair)
                and context.check("failover: the slave takes the killed master's place, which comes back as its slave", change, pair)
                and context.check("failover: and the other way round", change, pair)
                and context.check("failover: everything acknowledged was consumed, and both logs are the same", end, pair)):
            context.check("failover: read back", senders.read_back, pair)
    finally:
        senders.close()


def take_over(context, mine):
    pair = Pair(context, "takeover", ("java", mine), SYNC)
    senders = Senders(pair)

    def take():
        pair.master.kill()
        pair.slave.stop()
        pair.slave.properties.update(brokerRole="ASYNC_MASTER", brokerId=0)
        pair.slave.start(mine)
        senders.go_on()

    try:
        if (context.check(f"failover: 64 senders and java's synchronous master with a slave of {mine}", senders.start, pair)
                and context.check(f"failover: the slave of {mine} takes its place", take, pair)
                and context.check("failover: everything that java acknowledged was consumed", senders.end, pair)):
            context.check("failover: java's acknowledgements read back", senders.read_back, pair)
    finally:
        senders.close()
