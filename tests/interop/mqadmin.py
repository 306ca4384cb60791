"""mqadmin 5.5.0 against the same prepared work on RocketMQ's servers and on Gantry: what every command prints is compared.

`mqadmin/commands.txt` is the script, `mqadmin/java.txt` what RocketMQ 5.5.0 printed for it (`run --target java --only
mqadmin --capture`), `mqadmin/differences.txt` what differs and why. Both sides are normalised first, for what no two runs
have in common.
"""

import difflib
import fnmatch
import os
import re
import subprocess

import programs

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mqadmin")
SCRIPT, GOLDEN, DIFFERENCES = (os.path.join(HERE, name) for name in ("commands.txt", "java.txt", "differences.txt"))
DRIVER_S = 240
SHOWN_MAX = 60

# In this order: what stands in all output for what no two runs have in common.
RULES = [
    (r"\d{4}-\d\d-\d\d[ #]\d\d:\d\d:\d\d([,:]\d{3})?", "TIME"),
    (r"\b20\d{12}(\d{3})?\b", "TIME"),
    (r"\b1\d{12}\b", "MILLIS"),
    (r"\b[0-9A-F]{56}\b *", "ID "),
    (r"\b(?!7F0000011234565DDFF4)[0-9A-F]{32}\b *", "ID "),
    (r"(?<=127\.0\.0\.1:)\d+( *)", lambda found: "PORT" + " " * bool(found.group(1))),
    (r"\bWork\$\$Lambda\S+", "LISTENER"),
    (r"(?m)(?<=[a-zA-Z])@[0-9a-f]{5,8}$", "@HASH"),
    (r"spentTimeMills=\d+", "spentTimeMills=N"),
    (r"rt=\d+ms", "rt=Nms"),
    (r"TPS: [\d.]+", "TPS: N"),
    # A tool that has just ended and whose place the broker has not cleared yet.
    (r".*instance : clientId=\S+@MILLIS@\S+,.*\n", ""),
]
# In these steps numbers are times, rates and counts that are sampled every ten seconds.
NUMBERS = re.compile(r"(?<![\w.])-?\d+(\.\d+)?(E-?\d+)?(?![\w.])")
SAMPLED = {"statsAll", "statsAll-topic", "statsAll-active", "clusterList", "clusterList-more", "brokerStatus", "brokerStatus-cluster",
           "checkMsgSendRT", "sendMsgStatus", "consumerStatus-client", "consumerProgress-all"}
# These print sets, in the order of the server's memory.
UNORDERED = {"topicList", "topicList-cluster", "statsAll", "statsAll-active", "getBrokerConfig", "getNamesrvConfig", "producer",
             "brokerConsumeStats", "consumerProgress-all"}


def classes():
    """The compiled driver; made again when its sources are newer."""
    target = os.path.join(HERE, "target")
    marker = os.path.join(target, "Driver.class")
    sources = [os.path.join(HERE, name) for name in ("Driver.java", "Work.java")]
    if not os.path.exists(marker) or os.path.getmtime(marker) < programs.newest(*sources):
        os.makedirs(target, exist_ok=True)
        subprocess.run(["javac", "-Xlint:all,-processing,-classfile", "-d", target, "-cp", programs.server_classpath(), *sources], check=True)
    return target


def record(target):
    """Runs the script against a target that has been started; normalised output, a dict from step to lines."""
    ports = {"namesrv": target.ports.namesrv, "broker": target.ports.broker}
    values = {**{name: f"127.0.0.1:{port}" for name, port in ports.items()}, "namesrv.port": ports["namesrv"]}
    text = run(SCRIPT, target.directory, values).replace(target.store, "STORE").replace(target.directory, "DIRECTORY")
    named = (("BROKER", ports["broker"]), ("NAMESRV", ports["namesrv"]), ("HA", ports["broker"] + 1))
    return steps(normal(text, named))


def run(script, directory, values, limit_s=DRIVER_S):
    """Runs a script of commands in which the names of `values` stand for them; what they printed."""
    output, home = (os.path.join(directory, name) for name in ("mqadmin.txt", "mqadmin-home"))
    os.makedirs(home, exist_ok=True)
    command = ["java", *programs.SMALL_JVM, f"-Duser.home={home}", f"-Drocketmq.client.logRoot={home}/logs",
               "-cp", classes() + os.pathsep + programs.server_classpath(), "Driver", script, output, *(f"{name}={value}" for name, value in values.items())]
    environment = {name: value for name, value in os.environ.items() if name != "NAMESRV_ADDR"}
    with open(os.path.join(directory, "mqadmin-driver.out"), "wb") as log:
        done = subprocess.run(command, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                              env={**environment, "ROCKETMQ_HOME": home}, timeout=limit_s, check=False)
    if done.returncode != 0:
        with open(log.name, encoding="utf-8", errors="replace") as text:
            raise RuntimeError(f"the driver ended with {done.returncode}:\n{text.read()[-3000:]}")
    with open(output, encoding="utf-8") as text:
        return text.read()


def normal(text, ports=()):
    text = "\n".join(line.rstrip() for line in text.split("\n") if "|-" not in line)
    for name, port in ports:
        text = re.sub(rf"(?<=[:=\s]){port}\b", name, text)
    for pattern, stand_in in RULES:
        text = re.sub(pattern, stand_in, text)
    return text


def steps(text):
    found = {}
    for section in text.split("=== ")[1:]:
        title, _, body = section.partition("\n")
        name, lines = title.split(":")[0], body.rstrip("\n").split("\n")
        plain = name.split("@")[0]
        if plain in SAMPLED:
            lines = [re.sub(" +", " ", NUMBERS.sub("N", line)) for line in lines]
            lines = [re.sub("(?<=Tps : N)( N)+$", "", re.sub(r"\bN ([KMG]i)?B\b", "N B", line)) for line in lines]
        found[name] = [title, *(sorted(lines) if plain in UNORDERED else lines)]
    return found


def explained():
    """The known differences: step -> patterns of lines of the difference, each with a reason above it.

    Names of settings in braces stand for the lines that show them.
    """
    known, reason, step = {}, False, None
    with open(DIFFERENCES, encoding="utf-8") as text:
        for number, line in enumerate(text.read().splitlines(), 1):
            if line.startswith("# ") or not line:
                reason = bool(line)
            elif line[:2] in ("-{", "+{") and reason and step:
                known[step] += [f"{line[0]}{name} *=*" for name in line[2:-1].split()]
            elif line[0] in "+-" and reason and step:
                known[step].append(line)
            elif line[0] not in "+-" and reason:
                step = line
                known.setdefault(step, [])
            else:
                raise ValueError(f"{DIFFERENCES}:{number}: a difference without a reason")
    return known


def compare(target, found):
    """What differs from the golden output and is not explained, and explanations of what no longer differs: an error."""
    with open(GOLDEN, encoding="utf-8") as text:
        golden = steps(text.read())
    known, wrong, met = explained(), [], set()
    for name in [*golden, *(name for name in found if name not in golden)]:
        lines = list(difflib.unified_diff(golden.get(name, []), found.get(name, []), lineterm="", n=0))[2:]
        for line in lines:
            if line.startswith("@@"):
                continue
            patterns = [pattern for pattern in known.get(name, []) if fnmatch.fnmatchcase(line, pattern)]
            met.update((name, pattern) for pattern in patterns)
            if not patterns:
                wrong.append(f"{name}: {line}")
    if target.kind == "gantry":
        wrong += [f"{name}: explained, but does not differ any more: {pattern}"
                  for name, patterns in known.items() for pattern in patterns if (name, pattern) not in met]
    if wrong:
        raise RuntimeError(f"{len(wrong)} differences without an explanation\n" + "\n".join(wrong[:SHOWN_MAX]))
    return f"  {len(golden)} commands print the same, but for {len(met)} explained differences"


def capture(found):
    with open(GOLDEN, "w", encoding="utf-8") as out:
        for lines in found.values():
            out.write("=== " + "\n".join(lines) + "\n")


def case(context):
    """What every command of mqadmin prints, compared with what RocketMQ's servers printed for the same work."""
    target = context.target("mqadmin")

    def body():
        found = record(target)
        if context.options.capture:
            capture(found)
            return ""
        return compare(target, found)

    try:
        if context.check("mqadmin: start", target.start, target):
            context.check("mqadmin: every command prints what it prints with RocketMQ", body, target)
    finally:
        target.close()
