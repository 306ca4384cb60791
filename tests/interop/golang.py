"""The Go client against one server: builds the program in `go/` with the installed toolchain, and runs it."""

import os
import shutil
import subprocess

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "go")
PROGRAM_S = 200


def build():
    """The program, made again when its sources are newer (the toolchain's own cache decides)."""
    binary = os.path.join(HERE, "target", "client")
    subprocess.run(["go", "build", "-o", binary, "."], cwd=HERE, check=True)
    return binary


def case(context):
    """Each way of sending and of consuming of rocketmq-client-go v2."""
    if not shutil.which("go"):
        print("skipped go: no Go toolchain is installed", flush=True)
        return
    target = context.target("go")

    def body():
        done = subprocess.run([build(), target.address()], cwd=target.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env={**os.environ, "HOME": target.directory}, timeout=PROGRAM_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"ended with {done.returncode}\n{done.stdout[-3000:]}")
        return done.stdout

    try:
        if context.check("go: start", target.start, target):
            context.check("go: client 2.1.2", body, target)
    finally:
        target.close()
