"""One rank of torch.distributed.pipelining (gloo, 1F1B) on the stages that bench_pipeline cuts; started by it.

Weights that stages share are copies here, each trained for itself: torch's schedules leave tying them to the user, so
this side does less work. Prints JSON when the steps are done.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from gossamer.peer.pipeline.flow import step_batches
from gossamer.tasks import Staged, build_stage, build_task, cut_by_cost

WARM_UP = 3
TIMEOUT_S = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("rank", "stages", "microbatches", "batch", "steps", "port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(asked.port), GLOO_SOCKET_IFNAME="lo")
    timeout = timedelta(seconds=TIMEOUT_S)
    dist.init_process_group("gloo", rank=asked.rank, world_size=asked.stages, timeout=timeout)
    task = build_task("chars", {})
    assert isinstance(task, Staged)
    module = build_stage(task, 0, cut_by_cost(task, asked.stages), asked.rank)
    stage = PipelineStage(module, asked.rank, asked.stages, torch.device("cpu"))
    schedule = Schedule1F1B(stage, asked.microbatches, loss_fn=task.output_loss)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    is_first, is_last = asked.rank == 0, asked.rank == asked.stages - 1
    started_s, cpu_s = 0.0, 0.0
    for step in range(WARM_UP + asked.steps):
        if step == WARM_UP:
            started_s, cpu_s = time.perf_counter(), time.process_time()
        indices = step_batches(task, seed=0, step=step, n_microbatches=asked.microbatches, n_samples=asked.batch)
        every = indices.reshape(-1)
        optimizer.zero_grad()
        inputs = (task.inputs(every),) if is_first else ()
        losses: list[torch.Tensor] = []
        schedule.step(*inputs, target=task.targets(every) if is_last else None, losses=losses, return_outputs=False)
        optimizer.step()
        print(json.dumps({"step": step + 1}), flush=True)
    seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "rank": asked.rank}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
