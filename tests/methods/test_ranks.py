"""Two ranks get the loss of the whole batch, and its gradients."""

import pytest
import torch

from tests.methods.samples import OPTIONS, batch, part, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def work(name, rows=slice(None), group=None):
    """The loss and its parts, and the gradients."""
    model = tiny(name).eval()  # batch norm would need all samples
    data = part(
        batch(3, superpixels=model.superpixels[:1], labels=model.supervised or model.pseudo), rows
    )
    parts = model.loss(data, 0.5, group)
    parts["loss"].backward()
    gradients = [x.grad.numpy() for x in model.parameters() if x.grad is not None]
    return {key: value.item() for key, value in parts.items()}, gradients


def work_on_a_share(rank, ranks, file, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{file}", rank=rank, world_size=ranks)
    rows = [slice(0, 2), slice(2, 3)][rank]
    results[rank] = {name: work(name, rows, torch.distributed.group.WORLD) for name in OPTIONS}
    torch.distributed.destroy_process_group()


def test_ranks_get_the_loss_of_the_whole_batch(tmp_path):
    with torch.multiprocessing.Manager() as manager:
        shared = manager.dict()
        torch.multiprocessing.spawn(work_on_a_share, (2, tmp_path / "store", shared), nprocs=2)
        results = [shared[rank] for rank in (0, 1)]
    for name in OPTIONS:
        parts, gradients = work(name)
        shares = [result[name] for result in results]
        for values, _ in shares:
            assert values == pytest.approx(parts, rel=1e-4, abs=1e-6), name
        largest = max(abs(gradient).max() for gradient in gradients)
        for whole, *halves in zip(gradients, *(share[1] for share in shares), strict=True):
            assert abs(sum(halves) / 2 - whole).max() < 1e-3 * largest, name
