"""Gantry's Rust client against one server: its conformance suite, and groups that it shares with Java's client.

The suite is `net/tests/conformance`; Cargo builds and runs it. `gantry consume` is the Rust member of a shared group.
"""

import os
import re
import shutil
import subprocess
import time

import programs
import servers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SUITE_S = 900
LINE = re.compile(r"(ok|FAILED|not supported) (\S+) \(([^)]*)\)(?: in ([\d.]+) s)?")


def conformance_target(context):
    if context.options.target != "java":
        return context.target("conformance")
    folder = context.folder("conformance")
    # Expressions are off in RocketMQ unless its file says otherwise; it asks about transactions every half a minute.
    return servers.JavaServers(folder, os.path.join(folder, "store"), servers.Ports(), programs.server_classpath(),
                               settings={"enablePropertyFilter": "true", "transactionCheckInterval": "5000"})


def conformance(context):
    """Gantry's Rust client passes the suite that it passes against Gantry; what a broker lacks is listed, and is no pass."""
    target = conformance_target(context)

    def suite():
        if not shutil.which("cargo"):
            raise RuntimeError("no Rust toolchain is installed")
        done = subprocess.run(["cargo", "test", "-q", "-p", "gantry-net", "--test", "conformance", "--", "--namesrv", target.address()],
                              cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=SUITE_S, check=False)
        cases = [LINE.match(line) for line in done.stdout.splitlines()]
        cases = [case for case in cases if case]
        for case in cases:
            if case[1] == "ok":
                context.tell(f"conformance: {case[2]} ({case[3]})", True, float(case[4]), [])
            elif case[1] == "not supported":
                print(f"not supported conformance: {case[2]} ({case[3]})", flush=True)
        if done.returncode != 0 or not cases:
            raise RuntimeError(f"ended with {done.returncode}\n{done.stdout[-6000:]}")
        return "  " + done.stdout.strip().splitlines()[-1]

    try:
        if context.check("conformance: start", target.start, target):
            context.check("conformance: the suite", suite, target)
    finally:
        target.close()


def mixed(context):
    """One group of Java and Rust consumers: they divide the queues, and order holds while Java's come and go."""
    target = context.target("mixed-groups")

    def member(name, topic, group, *more):
        """A Rust member; its lines are `queue offset body`."""
        command = [os.path.abspath(context.options.gantry), "consume", "-n", target.address(), topic, "--group", group, "--follow",
                   "--format", "%q %o %s\\n", *more]
        return servers.Process(name, command, target.directory)

    def java(words):
        return programs.run("5.5.0", target.directory, ["mixed", "--namesrv", target.address(), *words])

    def lines(process):
        with open(process.log, encoding="utf-8", errors="replace") as text:
            found = [line.split() for line in text]
        return [(int(words[0]), int(words[1]), int(words[2])) for words in found if len(words) == 3 and all(map(str.isdigit, words))]

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
                theirs = [tuple(map(int, line.split())) for line in text]
            time.sleep(1)
            return done, lines(rust), theirs
        finally:
            if rust:
                rust.stop()

    def shared():
        _, ours, theirs = run("shared")
        # Bodies from 1000 on were sent after the members had settled.
        settled = sorted(line for line in ours + theirs if line[2] >= 1000)
        expect = list(range(1000, 1400))
        if sorted(line[2] for line in settled) != expect:
            raise RuntimeError(f"{len(settled)} deliveries of {len(expect)} messages: ours {ours[-5:]}, theirs {theirs[-5:]}")
        queues = [{line[0] for line in lines if line[2] >= 1000} for lines in (ours, theirs)]
        if queues[0] & queues[1] or not queues[0] or not queues[1]:
            raise RuntimeError(f"Rust has the queues {queues[0]}, Java {queues[1]}")
        return f"  Rust had the queues {sorted(queues[0])}, Java {sorted(queues[1])}"

    def ordered():
        _, ours, theirs = run("ordered", "--ordered")
        for name, seen in (("Rust", ours), ("Java", theirs)):
            for queue in {line[0] for line in seen}:
                offsets = list(dict.fromkeys(line[1] for line in seen if line[0] == queue))
                if offsets != sorted(offsets):
                    raise RuntimeError(f"{name} saw queue {queue} in the order {offsets}")
        missing = set(range(1, 601)) - {line[2] for line in ours + theirs}
        if missing:
            raise RuntimeError(f"{len(missing)} messages were never consumed: {sorted(missing)[:10]}")
        if not ours or not theirs:
            raise RuntimeError(f"Rust consumed {len(ours)}, Java {len(theirs)}")
        return f"  Rust consumed {len(ours)}, Java {len(theirs)}"

    try:
        if context.check("mixed-groups: start", target.start, target):
            context.check("mixed-groups: Java and Rust share the queues, each one once", shared, target)
            context.check("mixed-groups: order holds while a Java member comes and goes", ordered, target)
    finally:
        target.close()
