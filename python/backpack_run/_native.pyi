from collections.abc import Sequence

from torch import Tensor

Samples = tuple[Tensor, Tensor, Tensor | None]

def main(arguments: Sequence[str], program: str) -> int: ...

class Network:
    def __new__(cls, archive: bytes, keep_memory: bool) -> Network: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def parameters(self) -> list[str]: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def random(self) -> list[str]: ...
    @property
    def shape(self) -> list[int]: ...
    def extract(
        self,
        tensors: Sequence[Tensor],
        samples: Samples,
        loss: tuple[str, str],
        quantities: Sequence[str],
        *,
        scale: str,
        mc_samples: int,
        mc_seed: int,
        training: int | None = None,
        budget: int | None = None,
    ) -> tuple[
        Tensor, Tensor, Tensor | None, list[tuple[str, str, str, Tensor]], list[tuple[str, str]], dict[str, str]
    ]: ...
    def products(
        self,
        tensors: Sequence[Tensor],
        samples: Samples,
        loss: tuple[str, str],
        matrix: str,
        vectors: Sequence[Sequence[Tensor]],
        *,
        mc_samples: int,
        mc_seed: int,
        training: int | None = None,
    ) -> tuple[list[list[Tensor]], Tensor | None]: ...

class Optimizer:
    def __new__(
        cls,
        network: Network,
        tensors: Sequence[Tensor],
        curvature: str,
        rates: tuple[float, float, float],
        averaging: str,
        mc_samples: int,
        options: str,
    ) -> Optimizer: ...
    def step(
        self,
        network: Network,
        tensors: Sequence[Tensor],
        samples: tuple[Tensor, Tensor],
        loss: tuple[str, str],
        rates: tuple[float, float],
        draws: tuple[int, int],
        training: bool,
    ) -> tuple[float, int]: ...
    def state(self) -> dict[str, Tensor]: ...
    def load_state(self, state: dict[str, Tensor]) -> None: ...
