"""Builds the Java programs and finds class paths, and runs them. Maven is asked offline first, and not at all when nothing changed."""

import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = ("5.5.0", "4.9.8")
PROGRAM_S = 170
SMALL_JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"]


def newest(*paths):
    latest = 0.0
    for path in paths:
        if os.path.isdir(path):
            for folder, _, names in os.walk(path):
                latest = max([latest] + [os.path.getmtime(os.path.join(folder, name)) for name in names])
        else:
            latest = max(latest, os.path.getmtime(path))
    return latest


def is_current(classpath, *sources):
    """Whether what was built is newer than its sources and all of its libraries are still there."""
    if not os.path.exists(classpath) or os.path.getmtime(classpath) < newest(*sources):
        return False
    with open(classpath, encoding="utf-8") as text:
        return all(os.path.exists(entry) for entry in text.read().strip().split(os.pathsep))


def maven(folder, *arguments):
    for offline in (["-o"], []):
        done = subprocess.run(["mvn", "-q", "-B", *offline, *arguments], cwd=folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode == 0:
            return
    raise RuntimeError(f"mvn {' '.join(arguments)} failed:\n{done.stdout[-4000:]}")


def client_classpath(version):
    folder = os.path.join(HERE, "java")
    target = os.path.join(folder, "target", f"client-{version}")
    classpath = os.path.join(target, "classpath.txt")
    if not is_current(classpath, os.path.join(folder, "pom.xml"), os.path.join(folder, "src")):
        maven(folder, f"-Drocketmq.version={version}", "compile")
        os.utime(classpath)
    with open(classpath, encoding="utf-8") as text:
        return os.path.join(target, "classes") + os.pathsep + text.read().strip()


def server_classpath():
    folder = os.path.join(HERE, "server")
    classpath = os.path.join(folder, "target", "classpath.txt")
    if not is_current(classpath, os.path.join(folder, "pom.xml")):
        maven(folder, "dependency:build-classpath", f"-Dmdep.outputFile={classpath}", "-Dmdep.includeScope=runtime")
        os.utime(classpath)
    with open(classpath, encoding="utf-8") as text:
        return text.read().strip()


def command(version, directory, words, jvm=()):
    """The command line of `Main words` with the client of `version`; its log files go under `directory`."""
    return ["java", *SMALL_JVM, f"-Duser.home={directory}", f"-Drocketmq.client.logRoot={directory}/logs", *jvm, "-cp",
            client_classpath(version), "interop.Main", *words]


def run(version, directory, words, jvm=(), fails=False):
    """Runs `Main words` to its end; its output, or an error with it (unless it may say for itself that something `fails`)."""
    done = subprocess.run(command(version, directory, words, jvm), cwd=directory, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PROGRAM_S, check=False)
    if done.returncode != 0 and not (fails and done.returncode == 1):
        raise RuntimeError(f"ended with {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


def acknowledged(path):
    """How many messages a file of acknowledgements holds."""
    if not os.path.exists(path):
        return 0
    with open(path, "rb") as text:
        return text.read().count(b"\n")
