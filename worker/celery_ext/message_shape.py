"""Whether what came off a queue is a Celery message such as ours: what is not can end Celery's main process.

Celery trusts whoever may write to the broker: a time limit that is a word, an id that is a list or a body that is no
base64 raises where nobody catches it, and the message goes back to the queue, for the next worker to die of. And it
remembers what it was sent: 1,000 ids that were done and 50,000 that were revoked, for hours, whatever their length.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from celery.utils.time import maybe_iso8601

from detector.errors import read_json
from worker.app import CLEANUP_TASK, DETECT_TASK, IMAGE_QUEUE, RECONCILE_TASK, REPLY_EXCHANGE, REPLY_KEY
from worker.broker.queue import MOST_ID
from worker.messages import MOST_DEPTH, is_nested, is_typed, split_task_id
from worker.settings import settings

# Celery's own headers (protocol 2) that are text or absent. Characters that each may have: versions before wrote
# a page's whole name into `argsrepr`, which is four times as long there where it is of control characters.
_MOST_SHOWN, _MOST_WORD, _MOST_WORDS = 1 << 16, 256, 1024
_TEXT_OR_NONE = {
    **dict.fromkeys(("argsrepr", "kwargsrepr"), _MOST_SHOWN),
    **dict.fromkeys(("lang", "root_id", "parent_id", "group", "shadow", "origin", "eta", "expires"), _MOST_WORD),
}
# As JSON; ours have 1.5 and 0.3 KB, with the longest names of versions before 61.
_MOST_HEADERS, _MOST_PROPERTIES = 128 << 10, 4 << 10
_MOST_TAG = 64  # kombu's have 36; a process remembers those of what it has in hand
_CHECKED_BODY_BYTES = 1 << 20
_MOST_CONTROL = 1 << 16
_MOST_BROADCAST = 16 << 10
# Of a command of remote control, all that kombu's pidbox writes into one, and of what kind.
_COMMAND = {
    **{"method": str, "arguments": dict, "destination": list, "reply_to": dict, "ticket": str},
    **{"pattern": object, "matcher": object},
}


def wrong_shape(raw: object, arguments: int | None = None) -> str:
    """Why this is not a message a worker may be given; empty if it is one.

    Args:
        raw: what the JSON on the queue says.
        arguments: of its task, by place; it may have no other. Default: any.
    """
    if not isinstance(raw, dict):
        return f"a {type(raw).__name__}, not an object"
    if is_nested(raw):
        return f"lists in lists, over {MOST_DEPTH} deep"
    properties, headers = raw.get("properties"), raw.get("headers")
    return _wrong_properties(properties) or _wrong_headers(headers) or _wrong_body(raw, properties, arguments)


def wrong_image(raw: object) -> str:
    """Why this is no message of a page; empty if it is one. Lost, it is put back where it says that it goes.

    What has another task or other arguments ends in Celery, with a line or a traceback for each, and is not counted.
    """
    if reason := wrong_shape(raw, arguments=1):
        return reason
    assert isinstance(raw, dict)
    headers, delivery = raw["headers"], raw["properties"]["delivery_info"]
    if headers["task"] != DETECT_TASK:
        return "no page's task"
    if split_task_id(headers["id"]) is None:
        return "its id is no page's"
    if headers.get("expires"):
        return "it expires"  # pages do not; Celery would remember its id as revoked, and its job would wait
    return "" if is_to_images(delivery["exchange"], delivery["routing_key"]) else "it goes to another queue"


def is_to_images(exchange: object, routing_key: object) -> bool:
    """Whether a message goes to the queue of images."""
    return exchange in ("", IMAGE_QUEUE) and routing_key == IMAGE_QUEUE


def wrong_control(raw: object) -> str:
    """Why this is no command of remote control; empty if it is one. Over others Celery begins it anew."""
    if not isinstance(raw, dict):
        return f"a {type(raw).__name__}, not an object"
    if is_nested(raw):
        return f"lists in lists, over {MOST_DEPTH} deep"
    properties, body = raw.get("properties"), raw.get("body")
    if not isinstance(properties, dict) or not isinstance(raw.get("headers"), dict):
        return "no properties, or no headers"
    if reason := _wrong_properties(properties):
        return reason
    if raw.get("content-type") != "application/json" or not isinstance(body, str):
        return "no JSON"
    if raw.get("content-encoding") != "utf-8" or raw["headers"].get("compression") is not None:
        return "compressed, or not in utf-8"  # what is looked at here would not be what Celery reads
    if len(body) > _MOST_CONTROL:
        return f"over {_MOST_CONTROL >> 10} KiB"
    encoding = properties.get("body_encoding")
    if encoding not in ("base64", "utf-8", None):
        return f"body_encoding {encoding!r:.40}"
    try:
        value = read_json(base64.b64decode(body).decode() if encoding == "base64" else body)
    except ValueError:  # binascii.Error and UnicodeDecodeError are
        return "the body is no JSON"
    return _wrong_command(value)


def _wrong_command(value: Any) -> str:
    if not isinstance(value, dict) or not isinstance(value.get("method"), str):
        return "no method"
    if odd := next((name for name, kind in _COMMAND.items() if not isinstance(value.get(name), kind | None)), ""):
        return f"{odd} is none"
    if not value.keys() <= _COMMAND.keys():
        return "more than a command"
    if value.get("pattern") or value.get("matcher"):
        return "it asks by a pattern"  # a regular expression of a stranger can take years over a host's name
    if any(len(value.get(name) or "") > _MOST_WORD for name in ("method", "ticket")):
        return f"a method or ticket over {_MOST_WORD} characters"
    # kombu remembers, for a worker's life, the exchange of each answer: 2,000 names of 240 KB were 460 MB. And to no
    # exchange an answer goes into any list, to one that all hear to all workers.
    to = value.get("reply_to")
    if to is not None and not _is_waited_for(to):
        return "nobody waits there for an answer"
    # Ids that are revoked are remembered.
    return "long arguments" if any(map(_wrong_argument, (value.get("arguments") or {}).values())) else ""


def _is_waited_for(to: dict[str, object]) -> bool:
    """Whether an answer goes to who asked, as kombu names him: a uuid."""
    key = to.get("routing_key")
    return (
        to.keys() == {"exchange", "routing_key"}
        and to["exchange"] == REPLY_EXCHANGE
        and (isinstance(key, str) and REPLY_KEY.fullmatch(key) is not None)
    )


def wrong_broadcast(raw: object) -> str:
    """Why this is none of the two tasks that beat sends to all workers; empty if it is one.

    Broadcasts are not taken one at a time: what cannot run yet is held, whatever it holds. 400 of 0.9 MB were 376 MB.

    Args:
        raw: what the JSON says.
    """
    if reason := wrong_shape(raw, arguments=0):
        return reason
    assert isinstance(raw, dict)
    if raw["headers"]["task"] not in (CLEANUP_TASK, RECONCILE_TASK):
        return "no task for all workers"
    return f"over {_MOST_BROADCAST >> 10} KiB" if len(json.dumps(raw)) > _MOST_BROADCAST else ""


def _wrong_argument(value: object) -> bool:
    if isinstance(value, list):
        return len(value) > _MOST_WORDS or any(isinstance(one, list) or _wrong_argument(one) for one in value)
    return isinstance(value, dict) or (isinstance(value, str) and len(value) > _MOST_WORD)


def _wrong_properties(properties: object) -> str:
    if not isinstance(properties, dict):
        return "no properties"
    tag, delivery = properties.get("delivery_tag"), properties.get("delivery_info")
    if not isinstance(tag, str) or not tag:
        return "no delivery_tag"
    if len(tag) > _MOST_TAG or not tag.isascii():
        return "its delivery_tag is none of kombu's"
    if len(json.dumps(properties)) > _MOST_PROPERTIES:
        return f"properties over {_MOST_PROPERTIES >> 10} KiB"
    if not isinstance(delivery, dict):
        return "no delivery_info"
    if not isinstance(delivery.get("exchange"), str) or not isinstance(delivery.get("routing_key"), str):
        return "delivery_info without exchange and routing_key"
    for name in ("reply_to", "correlation_id"):
        if not isinstance(properties.get(name), str | None):
            return f"{name} is no text"
    priority = properties.get("priority")
    if priority is not None and not _is_count(priority):
        return "priority is no number"
    return ""


def _wrong_headers(headers: object) -> str:
    if not isinstance(headers, dict):
        return "no headers"
    for name in ("task", "id"):
        if not isinstance(headers.get(name), str) or not headers[name]:
            return f"no {name}"
    if len(headers["id"]) > MOST_ID:
        return f"an id over {MOST_ID} characters"
    for name, most in _TEXT_OR_NONE.items():
        text = headers.get(name)
        if not isinstance(text, str | None):
            return f"{name} is no text"
        if text is not None and len(text) > most:
            return f"{name} over {most:,} characters"
    if len(json.dumps(headers)) > _MOST_HEADERS:
        return f"headers over {_MOST_HEADERS >> 10} KiB"
    if headers["task"].startswith("celery."):
        return "a task of Celery's own"  # chunks, map, chord_unlock: they run and send whatever their message says
    if headers.get("eta"):
        return "it waits for a time"  # ours never do; Celery takes such from the queue without end, and holds them
    if headers.get("expires") and not _is_time(headers["expires"]):
        return "expires is no time"
    if headers.get("compression") is not None:
        return "compressed"
    retries = headers.get("retries")
    if retries is not None and not _is_count(retries):
        return "retries is no number"
    return _wrong_limits(headers) or _wrong_stamps(headers)


def _wrong_limits(headers: Mapping[str, object]) -> str:
    limits = headers.get("timelimit")
    if limits is None or limits == [None, None]:
        return ""
    # The worker's own hold. 0.1.0 sent them with pages that it sent again: those are taken where they are no longer.
    own = (settings().hard_timeout_s, settings().task_timeout_s)
    if isinstance(limits, list) and len(limits) == len(own) and all(map(_is_within, limits, own)):
        return ""
    return "it sets time limits"


def _is_within(limit: object, own: float) -> bool:
    return isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit <= own


def _wrong_stamps(headers: Mapping[str, object]) -> str:
    stamps, names = headers.get("stamps"), headers.get("stamped_headers")
    if not isinstance(stamps, dict | None) or not isinstance(names, list | None):
        return "stamps"
    return "" if all(isinstance(name, str) for name in names or []) else "stamps"


def _wrong_body(raw: Mapping[str, object], properties: object, arguments: int | None) -> str:
    assert isinstance(properties, dict)
    if raw.get("content-type") != "application/json":
        return f"ContentDisallowed: content-type {raw.get('content-type')!r:.40}; ours are JSON"
    if not isinstance(raw.get("content-encoding"), str) or raw["content-encoding"] != "utf-8":
        return "content-encoding is not utf-8"
    body, encoding = raw.get("body"), properties.get("body_encoding")
    if not isinstance(body, str) or len(body) > _CHECKED_BODY_BYTES:
        return "no body, or a body of over 1 MB"
    if encoding not in ("base64", "utf-8", None):
        return f"body_encoding {encoding!r:.40}"
    try:
        value = read_json(base64.b64decode(body, validate=True).decode() if encoding == "base64" else body)
    except ValueError:  # binascii.Error and UnicodeDecodeError are
        return "the body is no JSON"
    if is_nested(value):
        return f"lists in lists in the body, over {MOST_DEPTH} deep"
    if is_typed(value):
        return "types of kombu's in the body"
    if not isinstance(value, list) or len(value) != 3:
        return "the body is not [args, kwargs, embed]"
    args, kwargs, embed = value
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(embed, dict | None):
        return "the body is not [args, kwargs, embed]"
    if arguments is not None and (len(args) != arguments or kwargs):
        return f"its task has {arguments} argument{'s' if arguments != 1 else ''}"
    # Ours have no callbacks, chains or chords: what a stranger asks to be sent on is not.
    return "it asks for callbacks" if any((embed or {}).values()) else ""


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _is_time(value: str) -> bool:
    try:
        return maybe_iso8601(value) is not None
    except (ValueError, TypeError, OverflowError):
        return False
