"""What the page serves where the model that it was asked for cannot be had: it starts in any case, and says so."""

import os
from pathlib import Path

from model import hub
from model.artifact import ArtifactError
from model.classifier import Classifier
from model.hub import HubError

START_SECONDS = 6
"""For the pull at a start of the page: with what follows, the page is there within 15 seconds."""


def load_or_fall_back(source: str | Path | None = None, revision: str | None = None) -> tuple[Classifier, str | None]:
    """The classifier of `source` (see `Classifier.load`), and None; or, where a repository of the Hub cannot be had
    or is refused, the commit of it that was pulled last, else the bundled model, and in words which and why.

    Raises ArtifactError for a folder that is no intact artifact, ValueError for a revision of a folder.
    """
    if source is None or os.path.isdir(source) or not hub.is_repo_id(source):
        return Classifier.load(source, revision), None
    repo = str(source)
    try:
        return Classifier.from_artifact(*hub.pull(repo, revision, seconds=START_SECONDS)), None
    except (HubError, ArtifactError) as error:
        reason = str(error)
    # First what the asked revision was when it was last pulled, then any other commit, the newest first.
    for snapshot in filter(None, [hub.cached(repo, revision), *hub.all_cached(repo)]):
        try:
            classifier = Classifier.from_artifact(hub.read(snapshot), snapshot)
        except ArtifactError:
            continue
        return classifier, f"{reason} This page uses commit {snapshot.sha[:12]} of {repo}, which was downloaded before."
    return Classifier.load(), f"{reason} This page uses the bundled model instead of {repo}."
