"""A Vertex AI endpoint of this server: python -m deploy.vertex --project P --region R --image IMAGE [--dry-run]."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from deploy.vertex import plan as vertex
from deploy.vertex.plan import Plan
from service.errors import StartupError
from service.settings import Settings, load_settings

_TEXT = """\
Uploads a model that this server's image serves, creates an endpoint, deploys the one to the other, and asks it for a
vector, by Google's Python package (pip install google-cloud-aiplatform) with your own credentials. Replicas cost money
from then on. --dry-run changes nothing: it prints the same as commands of gcloud.
"""
_EXAMPLES = """\
examples:
  python -m deploy.vertex --project p --region us-central1 --image us-docker.pkg.dev/p/r/embedserve:0.1.0 --dry-run
  python -m deploy.vertex … --artifact gs://bucket/my-bundle --set EMBEDSERVE_LONG_INPUT=truncate
  python -m deploy.vertex … --machine g2-standard-4 --accelerator NVIDIA_L4
"""
_FOLDER = re.compile(r"gs://[a-z0-9][a-z0-9._-]*/[^/].*")
_ACCELERATOR = re.compile(r"(NVIDIA|TPU)_[A-Z0-9_]+")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason, or 2 for a wrong command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    dry = options.__dict__.pop("dry_run")
    if options.most_replicas < options.replicas:
        parser.error(f"--most-replicas {options.most_replicas} is less than --replicas {options.replicas}: raise it")
    if options.accelerator and options.machine == Plan.machine:
        parser.error(f"no {Plan.machine} has an accelerator: name a --machine that has (g2-standard-4 for an L4)")
    options.settings = dict(options.settings)
    wanted = Plan(**vars(options))
    if dry:
        _show(wanted)
        return 0
    try:
        from google.cloud import aiplatform  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        print(
            "vertex: Google's package is missing → pip install google-cloud-aiplatform, or --dry-run", file=sys.stderr
        )
        return 1
    _apply(wanted, aiplatform)
    return 0


def _show(wanted: Plan) -> None:
    *before, predict = vertex.gcloud(wanted)
    for command in before:
        print(_lines(command))
    print(f"echo {shlex.quote(vertex.request_text(wanted))} > request.json")
    print(_lines(predict))


def _lines(command: Sequence[str]) -> str:
    """An option a line, for a shell."""
    words = [word for word in command if not word.startswith("--")]
    options = [shlex.quote(word) for word in command if word.startswith("--")]
    return " \\\n    ".join([shlex.join(words), *options])


def _apply(wanted: Plan, aiplatform: Any) -> None:
    aiplatform.init(project=wanted.project, location=wanted.region)
    model = aiplatform.Model.upload(**vertex.upload_arguments(wanted))
    endpoint = aiplatform.Endpoint.create(**vertex.endpoint_arguments(wanted))
    model.deploy(endpoint=endpoint, **vertex.deploy_arguments(wanted))
    reply = endpoint.predict(**wanted.request)
    print(f"{endpoint.resource_name} gives {len(reply.predictions[0]['embeddings']['values'])} dimensions")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.vertex",
        description=_TEXT,
        epilog=_EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--project", required=True, help="Google Cloud project")
    parser.add_argument("--region", required=True, help="such as us-central1")
    parser.add_argument("--image", required=True, help="in Artifact Registry, which is all that Vertex AI pulls from")
    parser.add_argument("--name", type=_name, default="embedserve", help="of model and endpoint (default: %(default)s)")
    parser.add_argument(
        "--artifact", type=_artifact, metavar="gs://…", help="a bundle or checkpoint (default: the image's)"
    )
    parser.add_argument("--machine", default=Plan.machine, help="(default: %(default)s)")
    parser.add_argument(
        "--accelerator", type=_accelerator, metavar="TYPE", help="such as NVIDIA_L4, with the image of the target gpu"
    )
    parser.add_argument("--accelerators", type=_count, default=1, metavar="N", help="a replica (default: %(default)s)")
    parser.add_argument("--replicas", type=_count, default=1, metavar="N", help="at least (default: %(default)s)")
    parser.add_argument("--most-replicas", type=_count, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--cpu-target", type=_percent, default=70, metavar="PERCENT", help="of a replica (default: %(default)s)"
    )
    parser.add_argument("--service-account", metavar="EMAIL", help="that replicas are (default: Vertex AI's own)")
    parser.add_argument(
        *("--set",),
        type=_setting,
        action="append",
        default=[],
        dest="settings",
        metavar="EMBEDSERVE_…=VALUE",
        help="a setting",
    )
    parser.add_argument("--dry-run", action="store_true", help="print gcloud's commands, change nothing")
    return parser


def _name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise argparse.ArgumentTypeError("small letters, digits and -, a letter first, at most 63: it becomes an id")
    return value


def _artifact(value: str) -> str:
    if _FOLDER.fullmatch(value) is None:
        raise argparse.ArgumentTypeError("Vertex AI takes folders of Cloud Storage: gs://BUCKET/FOLDER")
    return value


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError("a whole number, at least 1")
    return int(value)


def _percent(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 100:
        raise argparse.ArgumentTypeError("percent: a whole number from 1 to 100")
    return int(value)


def _accelerator(value: str) -> str:
    if _ACCELERATOR.fullmatch(value) is None:
        raise argparse.ArgumentTypeError("as Vertex AI calls it, such as NVIDIA_L4")
    return value


def _setting(value: str) -> tuple[str, str]:
    name, _, text = value.partition("=")
    setting = name.removeprefix("EMBEDSERVE_").lower()
    if setting not in Settings.model_fields or not name.startswith("EMBEDSERVE_"):
        raise argparse.ArgumentTypeError(f"{name} is no setting; README.md has them all")
    if setting in vertex.AGREED:
        raise argparse.ArgumentTypeError(f"{name} is agreed with Vertex AI when the model is uploaded: leave it out")
    try:
        load_settings({setting: text})
    except StartupError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name, text


if __name__ == "__main__":
    sys.exit(main())
