"""Checks documents as the API server of each Kubernetes version would, and typing errors as well, which it would drop.

    python validate.py documents.json crds   ({version: [document]}, a folder of schemas)

The last line is JSON: a list of [version, kind and name, complaint].
"""

import json
import sys
from functools import cache
from pathlib import Path

import jsonschema
from kubernetes_validate import utils

utils.schema_contents = cache(utils.schema_contents)
utils.all_versions = cache(utils.all_versions)


def closed(schema):
    """No property but those that are listed, wherever some are and the API server would not keep others."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    lists = isinstance(schema.get("properties"), dict) and isinstance(schema.get("type"), str)
    if lists and not schema.get("x-kubernetes-preserve-unknown-fields"):
        inner.setdefault("additionalProperties", False)
    return inner


@cache
def custom(folder, api, kind):
    """The validator of a custom resource; None where there is no schema of it."""
    group, _, version = api.partition("/")
    file = Path(folder, group, f"{kind.lower()}_{version}.json")
    if not file.exists():
        return None
    schema = closed(json.loads(file.read_text("utf-8")))
    # The API server's own part, which definitions of custom resources leave open.
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def complaint(version, document, folder):
    """What is wrong with it, or None."""
    validator = custom(folder, document["apiVersion"], document["kind"])
    try:
        if validator:
            validator.validate(document)
        else:
            utils.validate(document, version, strict=True)
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.absolute_path))}: {error.message}"[:500]
    except (utils.SchemaNotFoundError, utils.VersionNotSupportedError) as error:
        return error.message
    return None


def main(file, folder):
    found = [
        [version, f"{document['kind']} {document['metadata'].get('name')}", wrong]
        for version, documents in json.loads(Path(file).read_text("utf-8")).items()
        for document in documents
        if (wrong := complaint(version, document, folder))
    ]
    print(json.dumps(found))


main(*sys.argv[1:])
