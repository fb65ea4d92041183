"""Reads documents, a line of JSON each, and answers what the schema of a Kubernetes version has against them.

An answer is a line too: a JSON string, empty for a valid document.
"""

import functools
import json
import sys

import kubernetes_validate
from kubernetes_validate import utils

# It would read the same two megabytes again for each document.
utils.schema_contents = functools.cache(utils.schema_contents)


def complaint(document, version):
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return error.message
    return ""


for line in sys.stdin:
    print(json.dumps(complaint(json.loads(line), sys.argv[1])), flush=True)
