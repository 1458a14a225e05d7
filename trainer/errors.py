"""What ends a run before its time. Imports neither torch nor Lightning."""

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """SIGINT or SIGTERM. Like KeyboardInterrupt it is no Exception, so that nothing on the way takes it for a fault.

    `state`: how far the run is, in words that go on from the signal's name.
    """

    def __init__(self, signum: int, state: str = ""):
        super().__init__(f"interrupted by {signal.Signals(signum).name}{state}")
        self.signum, self.state = signum, state
        self.exit_code = 128 + signum  # as shells say it: 130, 143


class TrainingError(RuntimeError):
    """The run cannot go on as it is; the message says what happened and what to change."""


class NonFiniteLoss(TrainingError):
    """A loss is NaN or infinite. `step` and `epoch` count from 1; `learning_rate` is that of the step."""

    def __init__(self, split: str, loss: float, step: int, epoch: int, learning_rate: float):
        super().__init__(
            f"the {split} loss became {loss} at step {step:,} (epoch {epoch}) with learning rate {learning_rate:.3g}; "
            "the checkpoints are from before. A lower --learning-rate helps most often"
        )


def raise_interrupted(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def interrupt_on_signals() -> None:
    """From here on SIGINT and SIGTERM raise Interrupted; Python's own SIGTERM would end without a word."""
    for signum in SIGNALS:
        signal.signal(signum, raise_interrupted)
