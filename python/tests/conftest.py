"""What the tests share: small models with batches, in double precision unless said."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model() -> nn.Module:
    """A convolution and two linear layers."""
    layers = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 5), nn.Tanh(), nn.Linear(5, 4)
    )
    return layers.double()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.randint(4, (6,))


def samples_gradients(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Each sample's gradient of its own loss, by autograd: `[N, *p]`."""
    names = [name for name, _ in model.named_parameters()]
    rows = []
    for n in range(len(x)):
        loss = nn.functional.cross_entropy(model(x[n : n + 1]), y[n : n + 1])
        rows.append(torch.autograd.grad(loss, list(model.parameters())))
    return {name: torch.stack(column) for name, column in zip(names, zip(*rows))}
