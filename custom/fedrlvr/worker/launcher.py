"""The command and the environment in which a site's worker starts: alone, under torchrun, or as the site says."""

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from fedrlvr.site_config import SiteConfig

MODULE = "fedrlvr.worker.worker"
ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}  # what a launcher sets for the only rank
# What a launcher may set for a rank; none of it may come from the environment of the site's own process.
PLACE = {*ALONE, "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT"}
# torchrun's agent would listen on every interface and unpickle what it receives. It has nobody to meet, so a file will
# do. The file grows with every heartbeat: one a day is enough.
IN_A_FILE = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file,keep_alive_interval=86400"]


def worker_command(config: SiteConfig, address: str) -> list[str]:
    """What starts every rank; each of them gets `address`, at which the supervisor listens. Ranks and torchrun meet in
    the folder of that address."""
    worker = [MODULE, address]
    if config.worker.launch is not None:
        return config.worker.command(worker, config.processes, free_port())
    if config.processes == 1:
        return [sys.executable, "-m", *worker]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *IN_A_FILE, f"--rdzv-endpoint={address}.torchrun"]
    return [*torchrun, f"--nproc-per-node={config.processes}", "-m", *worker]


def worker_environment(config: SiteConfig) -> dict[str, str]:
    """The environment of this process, without its own rank variables. The folder of the running Python comes first in
    PATH, whether or not its virtual environment is active."""
    environment = {name: value for name, value in os.environ.items() if name not in PLACE}
    if config.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""  # or DeepSpeed would take a GPU
    elif config.gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible_gpus(config.gpus, environment.get("CUDA_VISIBLE_DEVICES"))
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # no second store of torchrun's, which nobody would use
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    if config.threads is not None:
        environment["OMP_NUM_THREADS"] = str(config.threads)
    return environment


def visible_gpus(numbers: Sequence[int], inherited: str | None) -> str:
    """CUDA_VISIBLE_DEVICES for a worker that may use these of the GPUs that torch sees here. Where the variable is set
    already, as by a batch system, they are numbered in its order; CUDA stops at one that is not among them (-1)."""
    if not inherited:
        return ",".join(map(str, numbers))
    names = inherited.split(",")
    return ",".join(names[number].strip() if number < len(names) else "-1" for number in numbers)


def take_place() -> None:
    """Set what a launcher would have set, for a worker that was started without one (as under `docker run`): it is the
    only rank. Raises RuntimeError for one of several ranks that was not told which."""
    if "RANK" not in os.environ:
        for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
            if int(os.environ.get(name) or 1) > 1:
                raise RuntimeError(
                    f"worker.launch: {name} is {os.environ[name]}, but RANK is not set; let torchrun start the ranks"
                )
    for name, value in ALONE.items():
        os.environ.setdefault(name, value)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
