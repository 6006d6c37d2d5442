"""The explorables that the chapters store, and their states put together again."""

import base64
import copy
import json
import re

import numpy as np

from figures import codec


def data_of(html):
    """What one explorable stores, as the page's script reads it."""
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.S)[1])


def sizes_of(data):
    return [len(parameter["values"]) for parameter in data["states"]]


def state_of(data, places):
    """The figure of one state, put together as the page's script does it."""
    number = codec.number(places, sizes_of(data))
    whole = copy.deepcopy({"figure": data["base"], "says": data["says"]})
    for column in data["columns"]:
        index = np.frombuffer(base64.b64decode(column["index"]), {"u1": "u1", "u2": "<u2", "i4": "<i4"}[data["kind"]])
        node = whole
        for key in column["path"][:-1]:
            node = node[key] if isinstance(node, list) else node.setdefault(key, {})
        value = data["values"][index[number]]
        if value is None:
            node.pop(column["path"][-1], None)
        else:
            node[column["path"][-1]] = copy.deepcopy(value)
    return whole


def explorables(notebook):
    """(name, data) of each explorable in a stored notebook."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", []))
            if name := re.search(r'<figure class="explorable" id="([^"]+)"', html):
                yield name[1], data_of(html)
