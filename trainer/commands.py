"""What `python -m trainer` and its commands do with their parsed flags.

Each imports PyTorch as late as it can: `publish` and `space` never, `train` when the flags and the folders are checked.
"""

import os
import shlex
import sys
import time
from argparse import Namespace
from dataclasses import fields
from pathlib import Path

from model import artifact, cifar10
from model.artifact import ArtifactError
from model.hub import HubError
from trainer.config import ConfigError, TrainConfig, configure, dataset_name, flag, torchrun_devices
from trainer.download import download_if_missing
from trainer.errors import Interrupted, TrainingError
from trainer.run import RUN, check_test_is_unread, check_unused, note_no_test, read_run, run_lock

STARTED = time.monotonic()


def train(args: Namespace) -> None:
    """Train a ResNet on CIFAR-10 or a folder of images, evaluate it on val and test, export the artifact folder.
    Without flags: CIFAR-10, the default recipe, on the best available device, into runs/default-seed0/artifact."""
    given = {f.name: getattr(args, f.name) for f in fields(TrainConfig) if f.name != "recipe" and f.name in args}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    config = configure(args.recipe, given | torchrun_devices(os.environ, given))
    data_dir = cifar10.data_dir(args.data_dir)
    run_dir = args.output_dir or Path("runs") / f"{dataset_prefix(config)}{args.recipe}-seed{config.seed}"
    check_flags(args)
    if config.images and run_dir.resolve().is_relative_to(Path(config.images).resolve()):
        raise ConfigError(f"--output-dir {run_dir} lies inside --images: choose one elsewhere")
    if is_first_process():  # another one may come when the first has begun the run
        check_before(args, run_dir)
    if config.images is None:
        download_if_missing(data_dir, args.download_from)
    from trainer.fit import fit

    try:
        deadline = STARTED + 60 * args.max_time
        progress = fit(config, data_dir, run_dir, args.resume, deadline, sys.stdout.isatty(), given)
        if progress is None:
            return  # one of several processes, not the first
        if progress.epochs < progress.total:
            left = f"Not finished: {progress.epochs} of {progress.total} epochs are trained and saved"
            print(f"{left}, --max-time is over. To go on, repeat the command with --resume")
        elif args.skip_test:
            end_without_test(run_dir, data_dir)
        else:
            end_with_artifact(args, run_dir, data_dir, progress.epochs)
    except Interrupted as interrupted:
        if (run_dir / RUN).exists():
            again = f"{interrupted.state}. To continue, repeat the command with --resume"
            raise Interrupted(interrupted.signum, again) from None
        raise


def dataset_prefix(config: TrainConfig) -> str:
    """Of the run folder's name: "photos-" for --images photos/. Raises ConfigError where there is no such folder."""
    if config.images is None:
        return ""
    if not config.images.strip() or not os.path.isdir(config.images):
        raise ConfigError(f"--images {config.images} is not a folder: name one that has a sub-folder per class")
    return f"{dataset_name(config.images)}-"


def check_flags(args: Namespace) -> None:
    """Raises ConfigError where one of the flags has no effect."""
    if not args.max_time > 0:
        raise ConfigError(f"--max-time is {args.max_time:g}; it must be a positive number of minutes")
    if args.private and args.push_to_hub is None:
        raise ConfigError("--private has no effect without --push-to-hub: leave it out or add --push-to-hub")
    if args.skip_test and args.push_to_hub is not None:
        raise ConfigError("--push-to-hub has no effect with --skip-test, which makes no artifact: leave one out")
    check_one_dataset(args)


def check_one_dataset(args: Namespace) -> None:
    """Raises ConfigError where a flag for CIFAR-10 stands beside --images."""
    for name, default in (("data_dir", None), ("download_from", "official")):
        if getattr(args, "images", None) is not None and getattr(args, name, default) != default:
            raise ConfigError(f"{flag(name)} has no effect with --images: leave one out")


def check_before(args: Namespace, run_dir: Path) -> None:
    """What would end the run late is found out before the training. Raises RunError, HubError."""
    if not args.resume and (run_dir / RUN).exists():
        with run_lock(run_dir):  # a process that is at work there is told first
            check_unused(run_dir)
    if args.skip_test:
        check_test_is_unread(run_dir)
    if args.push_to_hub:
        from trainer.publish import open_repo

        open_repo(args.push_to_hub, private=args.private)


def is_first_process() -> bool:
    """Of those that train together, however they were started: torchrun, Lightning, one per machine, Slurm."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def end_without_test(run_dir: Path, data_dir: Path) -> None:
    from trainer.evaluate import summary_table
    from trainer.export import evaluate_on_val

    print(summary_table({"val": evaluate_on_val(run_dir, data_dir)}))
    note_no_test(run_dir, True)
    print(f"Finished: {run_dir}. To evaluate it on the test set: python -m trainer export {shlex.quote(str(run_dir))}")


def end_with_artifact(args: Namespace, run_dir: Path, data_dir: Path, epochs: int) -> None:
    """Exports the finished run, unless that was done before, and publishes it if asked to."""
    folder = run_dir / "artifact"
    try:
        exported = artifact.read(folder).metrics.training.epochs == epochs
    except ArtifactError:
        exported = False
    if args.samples is not None and args.samples != (folder / artifact.SAMPLES).is_dir():
        exported = False
    if exported:
        print(f"Finished before: {folder}. To serve it: python app.py --model {shlex.quote(str(folder))}")
    else:
        export_and_print(run_dir, data_dir, samples=args.samples)
    if args.push_to_hub:
        publish_and_print(folder, args.push_to_hub, private=args.private)


def export(args: Namespace) -> None:
    """Write RUN_DIR/artifact from a run's best checkpoint, evaluated on val and test."""
    check_one_dataset(args)
    read_run(args.run_dir)  # a wrong folder is answered before PyTorch is imported
    export_and_print(args.run_dir, cifar10.data_dir(args.data_dir), args.images, args.samples)


def export_and_print(run_dir: Path, data_dir: Path, images: Path | None = None, samples: bool | None = None) -> None:
    from trainer.evaluate import summary_table
    from trainer.export import export

    with run_lock(run_dir):
        try:
            folder = export(run_dir, data_dir, images, samples)
        except OSError as error:
            raise TrainingError(f"the artifact could not be written ({error}): try `export {run_dir}` again") from error
    metrics = artifact.read(folder).metrics
    print(summary_table({"val": metrics.val, "test": metrics.test}))
    print(f"Finished: {folder}. To serve it: python app.py --model {shlex.quote(str(folder))}")


def evaluate(args: Namespace) -> None:
    """Recompute an artifact's metrics; exit code 1 if they differ."""
    check_one_dataset(args)
    metrics = artifact.read(args.folder).metrics
    from trainer.evaluate import recompute, summary_table

    differences = recompute(args.folder, cifar10.data_dir(args.data_dir), args.images)
    print(summary_table({"val": metrics.val, "test": metrics.test}))
    if differences:
        print("\n".join(differences), file=sys.stderr)
        sys.exit(1)
    print("Recomputed on val and test: counts are equal; losses, intervals and calibration errors agree.")


def publish(args: Namespace) -> None:
    """Push an artifact folder to the Hugging Face Hub, in one commit. Needs HF_TOKEN or a login."""
    publish_and_print(args.folder, args.repo, args.branch, args.tag, args.private)


def publish_and_print(
    folder: Path, repo: str, branch: str | None = None, tag: str | None = None, private: bool = False
) -> None:
    from trainer.publish import publish

    try:
        done = publish(folder, repo, branch, tag, private)
    except HubError as error:
        flags = ["--branch", branch] * bool(branch) + ["--tag", tag] * bool(tag) + ["--private"] * private
        again = shlex.join(["python", "-m", "trainer", "publish", str(folder), repo, *flags])
        raise HubError(f"{error} {folder} is unchanged; to try again: {again}") from error
    print(f"Published: {done.url} (commit {done.sha})")


def space(args: Namespace) -> None:
    """Host the page as a Hugging Face Space that serves a published model. Needs HF_TOKEN or a login."""
    from trainer.space import create_space

    done = create_space(args.space, args.model, args.revision, args.private)
    print(f"The page is being built: {done.url.split('/commit/')[0]} (commit {done.sha})")
