"""Gantry's Rust client against one server: its conformance suite, and groups that it shares with Java's client.

The suite is `net/tests/conformance`; Cargo builds and runs it. `gantry consume` is the Rust member of a shared group.
"""

import json
import os
import re
import shutil
import subprocess
import time
import typing

import programs
import servers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SUITE_S = 900
LINE = re.compile(r"(ok|FAILED|not supported) (\S+) \(([^)]*)\)(?: in ([\d.]+) s)?")


def java_target(context, name, settings):
    folder = context.folder(name)
    return servers.JavaServers(folder, os.path.join(folder, "store"), servers.Ports(), programs.server_classpath(), settings=settings)


def suite(context, name, target, words):
    """Runs the suite, or the cases that `words` choose, and counts its cases."""
    if not shutil.which("cargo"):
        raise RuntimeError("no Rust toolchain is installed")
    # The programs of Java's client, for the cases that need both clients.
    peer = [part for word in programs.command("5.5.0", target.directory, []) for part in ("--peer", word)]
    done = subprocess.run(["cargo", "test", "-q", "-p", "gantry-net", "--test", "conformance", "--", "--namesrv", target.address(), *peer, *words],
                          cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=SUITE_S, check=False)
    cases = [LINE.match(line) for line in done.stdout.splitlines()]
    cases = [case for case in cases if case]
    for case in cases:
        if case[1] == "ok":
            context.tell(f"{name}: {case[2]} ({case[3]})", True, float(case[4]), [])
        elif case[1] == "not supported":
            print(f"not supported {name}: {case[2]} ({case[3]})", flush=True)
    if done.returncode != 0 or not cases:
        raise RuntimeError(f"ended with {done.returncode}\n{done.stdout[-6000:]}")
    return "  " + done.stdout.strip().splitlines()[-1]


def conformance(context):
    """Gantry's Rust client passes the suite that it passes against Gantry; nothing may be lacking on RocketMQ."""
    if context.options.target == "java":
        # Expressions are off in RocketMQ unless its file says otherwise; it asks about transactions every half a minute.
        settings = {"enablePropertyFilter": "true", "transactionCheckInterval": "5000"}
        # Resets are told to consumers at their next pull, or at once as before 5.0.
        pushing = java_target(context, "conformance-resets", {"useServerSideResetOffset": "false"})
        targets = [("conformance", java_target(context, "conformance", settings), ["--all"]),
                   ("conformance-resets", pushing, ["--all", "administrator"])]
    else:
        targets = [("conformance", context.target("conformance"), [])]
    for name, target, words in targets:
        try:
            if context.check(f"{name}: start", target.start, target):
                context.check(f"{name}: the suite", lambda: suite(context, name, target, words), target)
        finally:
            target.close()


def trace(context):
    """RocketMQ's own tool shows the trace of what Gantry's client sent and consumed."""
    target = context.target("trace")

    def gantry(words, text=b""):
        done = subprocess.run([os.path.abspath(context.options.gantry), *words], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def tool(message_id):
        command = ["java", *servers.SMALL_JVM, f"-Duser.home={target.directory}", "-cp", programs.server_classpath(),
                   "org.apache.rocketmq.tools.command.MQAdminStartup", "queryMsgTraceById", "-n", target.address(), "-i", message_id]
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                              check=False, env={**os.environ, "ROCKETMQ_HOME": target.directory}).stdout

    def traced():
        # A topic's first message may come before its queues are in the routes.
        gantry(["produce", "-n", target.address(), "Traced"], b"first\n")
        sent = gantry(["produce", "-n", target.address(), "Traced", "--json", "--trace", "--group", "senders"], b'{"body":"x","keys":["k"]}\n')
        message_id = json.loads(sent)["messageId"]
        gantry(["consume", "-n", target.address(), "Traced", "--group", "readers", "--trace", "--count", "2"])
        shown = ""

        def is_shown():
            nonlocal shown
            shown = tool(message_id)
            return "senders" in shown and "readers" in shown

        try:
            servers.wait_for("both traces", is_shown, 60)
        except RuntimeError:
            raise RuntimeError(f"queryMsgTraceById {message_id} shows:\n{shown}") from None
        return "".join(f"  {line}\n" for line in shown.splitlines() if line.strip() and "|-INFO" not in line)

    try:
        if context.check("trace: start", target.start, target):
            context.check("trace: mqadmin shows who sent and who consumed a message", traced, target)
    finally:
        target.close()


class Line(typing.NamedTuple):
    """A message that a member consumed, and when, ms since 1970."""

    time: int
    queue: int
    offset: int
    body: int


def in_order(members):
    """Each queue's messages were consumed for the first time in their order, whichever member had them; how often queues changed hands.

    A message may come again to the member after the one that had it: what counts is the first time.
    """
    changes = 0
    for queue in {line.queue for seen in members.values() for line in seen}:
        first = {}
        for name, seen in members.items():
            for line in seen:
                if line.queue == queue and (line.offset not in first or line.time < first[line.offset][0]):
                    first[line.offset] = (line.time, name)
            offsets = list(dict.fromkeys(line.offset for line in seen if line.queue == queue))
            if offsets != sorted(offsets):
                raise RuntimeError(f"{name} saw queue {queue} in the order {offsets}")
        # Of what has one time the order is not known.
        consumed = sorted(((*first[offset], offset) for offset in first), key=lambda one: (one[0], one[2]))
        for (before, one, offset), (after, other, following) in zip(consumed, consumed[1:]):
            changes += one != other
            if following < offset:
                raise RuntimeError(f"queue {queue}: {one} consumed offset {offset} at {before}, {other} the earlier {following} only at {after}")
    return changes


def mixed(context):
    """One group of Java and Rust consumers: they divide the queues, and order holds while Java's come and go."""
    target = context.target("mixed-groups")

    def member(name, topic, group, *more):
        """A Rust member; its lines are `time queue offset body`."""
        command = [os.path.abspath(context.options.gantry), "consume", "-n", target.address(), topic, "--group", group, "--follow",
                   "--format", "%c %q %o %s\\n", *more]
        return servers.Process(name, command, target.directory)

    def java(words):
        return programs.run("5.5.0", target.directory, ["mixed", "--namesrv", target.address(), *words])

    def lines(process):
        with open(process.log, encoding="utf-8", errors="replace") as text:
            found = [line.split() for line in text]
        return [Line(*map(int, words)) for words in found if len(words) == 4 and all(map(str.isdigit, words))]

    def run(mode, *more):
        topic = group = f"mixed-{mode}"
        rust = None
        try:
            java(["--topic", topic, "--group", group, "--mode", "make"])
            rust = member(f"rust-{mode}", topic, group, *more)
            out = os.path.join(target.directory, f"{mode}.txt")
            done = java(["--topic", topic, "--group", group, "--mode", mode, "--rust", rust.log, "--out", out])
            # Java's program ends when all has been consumed; what it saw itself is in its file.
            with open(out, encoding="utf-8") as text:
                theirs = [Line(*map(int, line.split())) for line in text]
            time.sleep(1)
            return done, lines(rust), theirs
        finally:
            if rust:
                rust.stop()

    def shared():
        _, ours, theirs = run("shared")
        # Bodies from 1000 on were sent after the members had settled.
        settled = [line for line in ours + theirs if line.body >= 1000]
        expect = list(range(1000, 1400))
        if sorted(line.body for line in settled) != expect:
            raise RuntimeError(f"{len(settled)} deliveries of {len(expect)} messages: ours {ours[-5:]}, theirs {theirs[-5:]}")
        queues = [{line.queue for line in lines if line.body >= 1000} for lines in (ours, theirs)]
        if queues[0] & queues[1] or not queues[0] or not queues[1]:
            raise RuntimeError(f"Rust has the queues {queues[0]}, Java {queues[1]}")
        return f"  Rust had the queues {sorted(queues[0])}, Java {sorted(queues[1])}"

    def ordered():
        _, ours, theirs = run("ordered", "--ordered")
        changes = in_order({"Rust": ours, "Java": theirs})
        missing = set(range(1, 601)) - {line.body for line in ours + theirs}
        if missing:
            raise RuntimeError(f"{len(missing)} messages were never consumed: {sorted(missing)[:10]}")
        if not ours or not theirs:
            raise RuntimeError(f"Rust consumed {len(ours)}, Java {len(theirs)}")
        if changes < 2:
            raise RuntimeError(f"queues changed hands {changes} times only: that says nothing about order")
        return f"  Rust consumed {len(ours)}, Java {len(theirs)}; queues changed hands {changes} times"

    try:
        if context.check("mixed-groups: start", target.start, target):
            context.check("mixed-groups: Java and Rust share the queues, each one once", shared, target)
            context.check("mixed-groups: order holds while a Java member comes and goes", ordered, target)
    finally:
        target.close()
