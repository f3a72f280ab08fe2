"""Send every operation of an OpenAPI description the inputs that generators rarely hit; none may be answered with a 5xx.

usage: hard-inputs.py SERVER KEY
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

TEXTS = ["", "\0", "a\0b", "\U0001f600", "\u202e", "x" * 5000, "9223372036854775807", "99999999999999999999", "-1", "' OR 1=1 --", "%", "..", "{}"]
VALUES = [*TEXTS, 0, -1, 2**63 - 1, -(2**63), 2**64, 1.5, True, None, [], {}, ["\0"], {"\0": "\0"}]
# A stream does not end; the other two may end the key.
LEFT_OUT = {"/api/v1/experiments/{experiment}/logs/stream", "/api/v1/logout", "/api/v1/tokens/{token}"}


def example(schema, components, depth=0):
    """Something that fits well enough to come past the reading of the body."""
    if "$ref" in schema:
        return example(components[schema["$ref"].rsplit("/", 1)[1]], components, depth)
    for one_of in ("oneOf", "anyOf", "allOf"):
        if one_of in schema:
            return example(schema[one_of][0], components, depth)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        if depth > 3:
            return {}
        return {name: example(one, components, depth + 1) for name, one in schema.get("properties", {}).items() if name in schema.get("required", [])}
    return {"array": [], "integer": 1, "number": 1, "boolean": False, "null": None}.get(kind, "ana")


def requests(document):
    components = document.get("components", {}).get("schemas", {})
    for path, operations in document["paths"].items():
        if path in LEFT_OUT:
            continue
        for method, operation in operations.items():
            parameters = operation.get("parameters", [])
            in_path = [one["name"] for one in parameters if one["in"] == "path"]
            in_query = [one["name"] for one in parameters if one["in"] == "query"]
            fit = {one["name"]: example(one["schema"], components) for one in parameters if one["in"] == "query" and one.get("required")}
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            body = None if schema is None else example(schema, components)

            def request(path_values, query, body):
                url = path
                for name in in_path:
                    url = url.replace("{" + name + "}", urllib.parse.quote(str(path_values.get(name, "1")), safe=""))
                return method.upper(), url + "?" + urllib.parse.urlencode(query), body

            for text in TEXTS:
                for name in in_path:
                    yield request({name: text}, fit, body)
                for name in in_query:
                    yield request({}, {**fit, name: text}, body)
            if isinstance(body, dict):
                full = components[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
                for name in full.get("properties", {}):
                    for value in VALUES:
                        yield request({}, fit, {**body, name: value})


def main():
    server, key = sys.argv[1:]
    with urllib.request.urlopen(server + "/openapi.json", timeout=20) as answer:
        document = json.load(answer)
    sent, bad = 0, 0
    for method, url, body in requests(document):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(server + url, data, headers, method=method)
        sent += 1
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
            error.read()
        if status >= 500:
            bad += 1
            print(f"{status}: {method} {url} {'' if data is None else data.decode()[:200]}")
    print(f"{sent} requests, {bad} answered with a 5xx")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
