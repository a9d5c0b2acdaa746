"""Compares documents (a list, as JSON) with the Python models of KServe and Kubernetes; says what is wrong, as JSON.

The generated models hold each field's name and type, as the API's own definitions have it.
"""

import json
import re
import sys

import kserve.models
import kubernetes.client.models

PLAIN = {"str": str, "int": int, "float": (int, float), "bool": bool, "object": object}


def model(name):
    for module in (kserve.models, kubernetes.client.models):
        if hasattr(module, name):
            return getattr(module, name)
    raise SystemExit(f"there is no model {name}")


def complaints(kind, value, where):
    if found := re.fullmatch(r"[lL]ist\[(.*)\]", kind):
        if not isinstance(value, list):
            yield f"{where}: it is no list"
            return
        for i, one in enumerate(value):
            yield from complaints(found[1], one, f"{where}.{i}")
    elif found := re.fullmatch(r"[dD]ict[(\[]str, (.*)[)\]]", kind):
        for key, one in value.items():
            yield from complaints(found[1], one, f"{where}.{key}")
    elif kind in PLAIN:
        is_wrong_bool = isinstance(value, bool) and kind not in ("bool", "object")
        if is_wrong_bool or not isinstance(value, PLAIN[kind]):
            yield f"{where}: {value!r} is no {kind}"
    else:
        yield from fields(model(kind), value, where)


def fields(cls, value, where):
    names = {wire: name for name, wire in cls.attribute_map.items()}
    for key, one in value.items():
        place = f"{where}.{key}".lstrip(".")
        if key not in names:
            yield f"{place}: there is no such field in {cls.__name__}"
        else:
            yield from complaints(cls.openapi_types[names[key]], one, place)


def of_document(document):
    version = document["apiVersion"].rpartition("/")[2].capitalize()
    return fields(model(version + document["kind"]), document, "")


print(json.dumps([line for document in json.loads(sys.argv[1]) for line in of_document(document)]))
