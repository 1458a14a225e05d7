"""`python tests/fake_trainer.py FLAGS`: what a sweep sees of a trainer, in a moment. The name of the run's folder says
how it behaves: fails..., waits..., stubborn..., deaf..., sends-SIGNAL...; any other ends well at once.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

COLUMNS = "epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy,seconds,images_per_second"


def write_history(run_dir: Path, epochs: int) -> None:
    rows = [f"{epoch},0.1,1,0.5,1,{0.5 + epoch / 100},2,50" for epoch in range(1, epochs + 1)]
    (run_dir / "history.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")


def main() -> None:
    run_dir, resume = Path(sys.argv[sys.argv.index("--output-dir") + 1]), "--resume" in sys.argv
    behaviour, told, sweep = run_dir.name, [], os.getppid()
    signal.signal(signal.SIGTERM, lambda signum, _: told.append(signum))
    run_dir.mkdir(exist_ok=True)
    call = {"pid": os.getpid(), "session": os.getsid(0), "arguments": sys.argv[1:], "environment": dict(os.environ)}
    with (run_dir / "calls").open("a") as file:
        file.write(json.dumps(call) + "\n")
    print("resumed" if resume else "started")
    if behaviour.startswith("fails"):
        sys.exit(3)
    whole = resume or not behaviour.startswith(("waits", "stubborn", "deaf", "sends-"))
    if behaviour.startswith("deaf"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        (run_dir / "child").write_text(str(child.pid))
    write_history(run_dir, 2 if whole else 1)
    flags = argparse.ArgumentParser()
    flags.add_argument("--seed", type=int, default=0)
    settings = {"recipe": "default"} | vars(flags.parse_known_args()[0])
    run = {"hyperparameters": settings, "split": {"train": 270}}
    (run_dir / "run.json").write_text(json.dumps(run))
    if whole:
        return
    if behaviour.startswith("sends-"):
        begun = [log.with_suffix("") for log in run_dir.parent.glob("*.log") if not log.stem.startswith("fails")]
        while not all((other / "run.json").exists() for other in begun):
            time.sleep(0.01)
        os.kill(sweep, signal.Signals[behaviour.removeprefix("sends-")])
    end = time.monotonic() + 120
    while (not told or behaviour.startswith("deaf")) and time.monotonic() < end:
        time.sleep(0.01)
    if behaviour.startswith("stubborn"):
        os.kill(sweep, signal.SIGTERM)  # as an impatient person
        time.sleep(60)
        sys.exit(9)
    sys.exit(143 if told else 9)


if __name__ == "__main__":
    main()
