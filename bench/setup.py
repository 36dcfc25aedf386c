"""Installs what the bench needs beyond Pombo itself: Debian's packages, npm's and pip's, in pinned versions."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

RIVALS = Path(__file__).parent / "rivals"
NODE = RIVALS / "node"
PYTHON = RIVALS / "python" / ".venv" / "bin" / "python"
# Of undici's 7th line; graphile-worker and BullMQ need less.
_NODE_AT_LEAST = (20, 18)
# Where Debian puts a program under another name, or outside of a user's PATH.
_PACKAGES = {"redis-server": "redis-server", "nginx": "nginx", "wrk": "wrk"}


class SetupError(Exception):
    """Something is missing that cannot be installed here; the message says what to do."""


def find(program: str) -> str:
    """Its path; raises SetupError when it is not installed."""
    if found := shutil.which(program) or shutil.which(program, path="/usr/sbin"):
        return found
    raise SetupError(f"{program} is missing: `apt-get install {_PACKAGES[program]}` as root, or `make bench-setup`.")


def ensure_programs(*programs: str) -> None:
    """Debian's packages; only root can install them. Raises SetupError."""
    missing = [p for p in programs if not (shutil.which(p) or shutil.which(p, path="/usr/sbin"))]
    if not missing:
        return
    names = " ".join(_PACKAGES[program] for program in missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SetupError(f"The bench needs {names}: `apt-get install {names}` as root (Debian's packages).")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], environment)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names.split()], environment)


def ensure_node_rivals() -> None:
    """Node itself must be there. Raises SetupError."""
    node = shutil.which("node")
    version = subprocess.check_output([node, "--version"], text=True) if node else "none"
    if not node or tuple(map(int, version.strip("v\n").split(".")[:2])) < _NODE_AT_LEAST:
        raise SetupError(f"The rivals in Node need Node.js 20.18 or newer with npm; found {version.strip()}.")
    lock = NODE / "package-lock.json"
    # npm writes this file when it has installed all.
    installed = NODE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(NODE)])


def ensure_python_rivals() -> None:
    """An environment apart from Pombo's. Raises SetupError."""
    directory = PYTHON.parents[1]
    requirements = directory.parent / "requirements.txt"
    stamp = directory / ".installed"
    if stamp.exists() and stamp.stat().st_mtime >= requirements.stat().st_mtime:
        return
    _run([sys.executable, "-m", "venv", str(directory)])
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "-r", str(requirements)])
    stamp.touch()


def ensure_all() -> None:
    ensure_programs("nginx", "wrk", "redis-server")
    ensure_node_rivals()
    ensure_python_rivals()


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SetupError(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-2000:]}")
