"""What is planned for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """Devices of one size."""

    memory: float  # bytes of one device
    devices: int = 1  # over which weights, gradients and optimizer are sharded in full
    offload: bool = False  # these three in host memory
    cuda: bool = True

    @property
    def kind(self) -> str:
        """Of its devices, as torch names it."""
        return "cuda" if self.cuda else "cpu"

    @property
    def divided(self) -> bool:
        """Whether weights must be gathered to be used."""
        return self.devices > 1 or self.offload
