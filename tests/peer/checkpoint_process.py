"""Processes that save checkpoints and die on the way. Run by test_checkpoints.py, never imported.

python checkpoint_process.py killed-at-random FOLDER SEED    kill -9 a process that saves in a loop, 40 times
python checkpoint_process.py killed-at-every-call FOLDER     kill -9 it at its 1st, 2nd, 3rd ... file system call
python checkpoint_process.py disk-full FOLDER [BYTES_MAX]    save ever more until there is no room
"""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import sys
from pathlib import Path

import torch

from gossamer.peer.checkpoints import Checkpoint, load_newest, save
from gossamer.protocol.errors import DiskFull

_FILE_SYSTEM_EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir")


def main(mode: str, folder: Path, number: int) -> None:
    torch.set_num_threads(1)
    if mode == "killed-at-random":
        kill_at_random(folder, seed=number)
    elif mode == "killed-at-every-call":
        kill_at_every_call(folder)
    else:
        fill_the_disk(folder, bytes_max=number)


def kill_at_random(folder: Path, *, seed: int) -> None:
    rng = random.Random(seed)
    save(folder, checkpoint_of(0, dim=20_000), keep=2)
    for _ in range(40):
        first = load_newest(folder).checkpoint.step + 1
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            for step in range(first, first + 1_000_000):
                save(folder, checkpoint_of(step, dim=20_000), keep=2)
                os.write(writable, b".")
        os.close(writable)
        select.select([readable], [], [], 30)
        select.select([], [], [], rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        n_saved = len(os.read(readable, 1 << 20))
        os.close(readable)
        require_intact(folder, steps=(first + n_saved - 1, first + n_saved))
    print("ok")


def kill_at_every_call(folder: Path) -> None:
    """Step 3 is saved again over steps 2 and 3, and dies at the n-th call, for every n."""
    for n_calls in range(1, 1000):
        home = folder / str(n_calls)
        for step in (1, 2, 3):
            save(home, checkpoint_of(step), keep=2)
        child = os.fork()
        if child == 0:
            die_at_call(n_calls)
            save(home, checkpoint_of(3), keep=1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        require_intact(home, steps=(3,))
        save(home, checkpoint_of(4), keep=1)
        left = sorted(path.name for path in (home / "checkpoints").iterdir())
        if left != ["00000004"]:
            raise SystemExit(f"killed at call {n_calls}: the next save left {left}")
        if status == 0:
            print("ok", n_calls)
            return


def die_at_call(n_calls: int) -> None:
    seen = 0

    def hook(event: str, args: object) -> None:
        nonlocal seen
        if event not in _FILE_SYSTEM_EVENTS:
            return
        seen += 1
        if seen == n_calls:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def fill_the_disk(folder: Path, *, bytes_max: int) -> None:
    if bytes_max:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))
    save(folder, checkpoint_of(1), keep=2)
    try:
        save(folder, checkpoint_of(2, dim=1_000_000), keep=2)
    except DiskFull as error:
        print(error)
    require_intact(folder, steps=(1,))
    save(folder, checkpoint_of(3), keep=2)
    require_intact(folder, steps=(3,))


def checkpoint_of(step: int, *, dim: int = 50) -> Checkpoint:
    """Every number in it is its step, so that a mixture would show."""
    tensors = {name: torch.full((dim,), float(step)) for name in ("a", "b")}
    return Checkpoint(step=step, round_index=step, model=tensors, shared={}, local=dict(tensors), record={"step": step})


def require_intact(folder: Path, *, steps: tuple[int, ...]) -> None:
    loaded = load_newest(folder)
    checkpoint = loaded.checkpoint
    values = torch.cat([*checkpoint.model.values(), *checkpoint.local.values()])
    if checkpoint.step not in steps or loaded.rejected or not bool((values == checkpoint.step).all()):
        raise SystemExit(f"expected a whole checkpoint of {steps}, found {loaded}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
