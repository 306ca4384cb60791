"""What applications do with a stock client, feature by feature, with both lines of clients at once on one server."""

import concurrent.futures
import re

import programs

CHECK = re.compile(r"check (ok|FAILED) (\S+) in (\d+) ms")
# By itself a client looks every 20 s. Java's broker was seen to take up to 3.3 s.
TAKEOVER_MS = {"gantry": 2_000, "java": 5_000}
# What a target does not have.
SKIP = {"gantry": "", "java": ""}


def checks(output):
    """(name, held, milliseconds, lines below it) of each check in a program's output."""
    found = []
    for line in output.splitlines():
        match = CHECK.fullmatch(line)
        if match:
            found.append((match[2], match[1] == "ok", int(match[3]), []))
        elif line.startswith("  ") and found and "features that failed" not in line:
            found[-1][3].append(line)
    return found


def run(context):
    """Features of the stock clients, one by one: retries, order, delays, pulls, replies, bodies and more."""
    target = context.target("features")

    def client(version):
        name = version.replace(".", "")
        output = programs.run(version, target.directory, [
            "features", "--namesrv", target.address(), "--prefix", f"F{name}", "--skip", SKIP[target.kind], "--",
            "rebalance", "--namesrv", target.address(), "--prefix", f"R{name}",
            "--takeover-ms", str(TAKEOVER_MS[target.kind])], fails=True)
        # What comes after the checks is the rest of the JVM's work.
        output, _, rest = output.partition("\nfeatures: ")
        found = checks(output)
        for check, held, elapsed_ms, lines in found:
            context.tell(f"features: client {version}, {check}", held, elapsed_ms / 1000, lines)
        if not found or "\nrebalance: ok" not in rest:
            raise RuntimeError((rest or output)[-6000:])
        return rest

    try:
        if not context.check("features: start", target.start, target):
            return
        with concurrent.futures.ThreadPoolExecutor() as clients:
            for version in programs.CLIENTS:
                clients.submit(context.check, f"features: client {version}, consumers come and go", lambda version=version: client(version), target)
    finally:
        target.close()
