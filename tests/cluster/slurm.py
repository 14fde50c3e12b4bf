"""A real SLURM cluster of one node on loopback: munged, slurmctld and slurmd in a folder of ours.

`srun` inside a job reads its configuration from /etc/slurm alone, so the file is put there, unless
the configuration of another cluster is there already.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
CONFIGURATION = Path("/etc/slurm/slurm.conf")
MARK = "# Written by eigenshape's cluster test"
_TEMPLATE = """{mark}
ClusterName=eigenshape
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
KillWait=2
OverTimeLimit=0
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no cluster can be started here; None where one can."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)} (Debian: slurmctld, slurmd, slurm-client, munge)"
    if os.geteuid():
        return "SLURM's daemons need root"
    if CONFIGURATION.is_file() and not CONFIGURATION.read_text().startswith(MARK):
        return f"{CONFIGURATION} belongs to another cluster"
    return None


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Start the daemons, wait until the node is idle, and stop them at the end."""
    munge = folder / "munge"
    for made in (munge, folder / "state", folder / "spool"):
        made.mkdir(parents=True)
    _write_configuration(folder)
    daemons = [_munged(munge)]
    try:
        daemons += [subprocess.Popen(["slurmctld", "-D"]), subprocess.Popen(["slurmd", "-D"])]
        _wait_for_node()
        yield
    finally:
        subprocess.run(["scancel", "--user", "root"], check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
        CONFIGURATION.unlink()


def _write_configuration(folder: Path) -> None:
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(
        _TEMPLATE.format(
            mark=MARK,
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            cpus=os.cpu_count(),
            memory=int(megabytes * 0.9),
        )
    )


def _munged(folder: Path) -> subprocess.Popen:
    """The daemon that signs SLURM's messages. It insists on being the owner of its folder."""
    for parent in folder.parents:
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    for path in (folder, key):
        shutil.chown(path, "munge", "munge")
    places = {"key-file": key, "socket": "socket", "pid-file": "pid", "log-file": "log"}
    words = [f"--{name}={folder / place}" for name, place in places.items()]
    command = ["munged", "--foreground", f"--seed-file={folder / 'seed'}", *words]
    daemon = subprocess.Popen(["runuser", "-u", "munge", "--", *command])
    _wait(lambda: (folder / "socket").exists(), "munged does not answer")
    return daemon


def _wait_for_node() -> None:
    def is_idle() -> bool:
        state = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
        return state.stdout.strip() == "idle"

    _wait(is_idle, "the node does not become idle; see slurmctld.log and slurmd.log")


def _wait(condition, problem: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(problem)
        time.sleep(0.2)
