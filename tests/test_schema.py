"""`outrigger schema` and the files of conf/: each file is valid, and full.yaml is the schema written out."""

import json
import re
import subprocess

import jsonschema
import pytest
import yaml

from harness.paths import ROOT, outrigger_binary

CONF = sorted((ROOT / "conf").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict:
    return json.loads(subprocess.run([outrigger_binary(), "schema"], capture_output=True, check=True).stdout)


@pytest.mark.parametrize("file", CONF, ids=lambda file: file.name)
def test_every_file_of_conf_is_valid(file, schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(file.read_text()))
    assert [error.message for error in errors] == []


def test_an_unknown_key_and_a_wrong_value_are_not_valid(schema):
    full = yaml.safe_load((ROOT / "conf" / "full.yaml").read_text())
    full["limits"] |= {"body": "4 MiB", "heads": 1}
    errors = jsonschema.Draft202012Validator(schema).iter_errors(full)
    assert sorted(list(error.path) for error in errors) == [["limits"], ["limits", "body"]]


def test_the_full_file_is_the_schema_written_out(schema):
    """Its keys, values and comments are those of the schema; neither has one that the other lacks."""
    expected, found, parents = {}, {}, []
    write_out(schema, "", expected)
    _, keys = (ROOT / "conf" / "full.yaml").read_text().split("\n\n", 1)
    for line in filter(None, keys.splitlines()):
        indent, key, value, comment = re.fullmatch(r"([ #-]*)(\w+):(?: (.*?))?  # (.*)", line).groups()
        depth = len(indent.replace("# ", ""))
        while parents and parents[-1][0] >= depth:
            parents.pop()
        path = f"{parents[-1][1]}.{key}" if parents else key
        assert path not in found, f"twice: {path}"
        found[path] = (yaml.safe_load(value) if value else None, comment)
        parents.append((depth, path))
    assert len(found) > 70
    assert found == expected


def write_out(schema: dict, path: str, out: dict) -> None:
    """Every key below `schema`: its default (or example) if it holds a value, and its description."""

    def enter(key: str, inner: dict) -> None:
        below, before = f"{path}.{key}".lstrip("."), len(out)
        write_out(inner, below, out)
        default = inner.get("default")
        value = None if len(out) > before else inner["examples"][0] if default is None else default
        out[below] = (value, inner["description"])

    for key, inner in schema.get("properties", {}).items():
        enter(key, inner)
    if "properties" in (schema.get("additionalProperties") or {}):
        enter("gateway", schema["additionalProperties"])
    for inner in [schema.get("items"), *schema.get("anyOf", [])]:
        if isinstance(inner, dict):
            write_out(inner, path, out)
