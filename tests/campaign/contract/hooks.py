"""What schemathesis cannot read in openapi.json, where JSON Schema has no words for it.

A schema looks at one parameter at a time and counts characters; the service looks at the whole request and counts bytes.
Requests that are meant to be good are put right here, by the rules of docs/api.md; those that are meant to be bad are left
as they are, but for the mistake that schemathesis makes in all of them.
"""

import itertools
import json
import urllib.request

import schemathesis

PERCENT = ("pct", "progress_pct", "progress")
STAGE = ("stage", "message", "step", "current_step")
BYTES_MAX = {**dict.fromkeys((*STAGE, "reason", "q"), 256), "writer": 64, "worker": 64}
LABEL_BYTES_MAX = 256
JOBS = {"0", "queued", "leased", "processing", "stopping", "completed", "failed", "cancelled", "long"}
numbers = itertools.count()
reports = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None:
        return
    fit_tags(case.headers)
    if case.operation.label in PRECAUTIONS:
        PRECAUTIONS[case.operation.label](case)
    if not case.meta.generation.mode.is_positive:
        return
    fit_bytes(case.query)
    fit_bytes(case.body)
    rule = RULES.get(case.operation.label)
    if rule is not None:
        rule(case)


def fit_bytes(members):
    """Limits of texts are in bytes."""
    if not isinstance(members, dict):
        return
    for name, limit in BYTES_MAX.items():
        if isinstance(members.get(name), str):
            members[name] = cut(members[name], limit)
    labels = members.get("labels")
    if isinstance(labels, dict):
        for key, value in labels.items():
            if isinstance(value, str):
                labels[key] = cut(value, LABEL_BYTES_MAX)
    if isinstance(members.get("label"), list):
        members["label"] = [fit_label(label) for label in members["label"]]


def fit_label(label):
    key, colon, value = str(label).partition(":")
    return key + colon + cut(value, LABEL_BYTES_MAX)


def cut(text, limit):
    return text.encode("utf-8", "surrogatepass")[:limit].decode("utf-8", "ignore")


def fit_tags(headers):
    """The coverage phase of schemathesis 4.32 has a format of its own for these headers, and makes `0` by it: every request
    would be refused for that, whatever else is wrong with it. These let all of them through."""
    for name, tag in (("If-Match", "*"), ("If-None-Match", '"other"')):
        if headers and headers.get(name) == "0":
            headers[name] = tag


def given(members, *names):
    """Whether any of these members says something; null does not."""
    return isinstance(members, dict) and any(members.get(name) is not None for name in names)


def a_list(case):
    """A cursor is `next` of a page before and nothing that could be made up."""
    case.query.pop("cursor", None)


def a_feed(case):
    """Chosen jobs or a filter, not both."""
    if "id" in case.query:
        for name in ("status", "kind", "label"):
            case.query.pop(name, None)
        # And no more than a hundred of them.
        case.query["id"] = case.query["id"][:100] if isinstance(case.query["id"], list) else case.query["id"]


def a_read(case):
    """A wait needs something to wait for."""
    if not given(case.query, "since", "until") and not given(dict(case.headers or {}), "If-None-Match"):
        case.query.pop("wait", None)


def a_log(case):
    """A log that is followed has no limit."""
    if is_followed(case):
        case.query.pop("limit", None)


def an_endless_log(case):
    """A log that is followed has no end before its job is done: so it is that of a job which is."""
    if is_followed(case):
        case.path_parameters["id"] = a_job(case, {"status": "completed", "log": ["a line"]})


def is_followed(case):
    """Also where it is meant to be bad, as a list, and is none on its way."""
    follow = case.query.get("follow") if isinstance(case.query, dict) else None
    return "1" in [str(value) for value in (follow if isinstance(follow, (list, dict)) else [follow])]


def a_removal(case):
    """The jobs that most requests are about stay: others go in their place."""
    if case.path_parameters.get("id") in JOBS:
        case.path_parameters["id"] = a_job(case)


def a_report(case):
    """Jobs have their end soon when so many write to them: every other report is of one that is new and under way."""
    if case.path_parameters.get("id") in JOBS and next(reports) % 2:
        case.path_parameters["id"] = a_job(case, {"status": "processing"})


def a_job(case, change=None):
    """A new one that nobody else knows."""
    job = f"own-{next(numbers)}"
    ask(case, job, "PUT", {"kind": "restyle"})
    if change is not None:
        ask(case, job, "PATCH", change)
    return job


def ask(case, job, method, body):
    url = f"{case.operation.base_url.rstrip('/')}/jobs/{job}"
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    urllib.request.urlopen(request, timeout=10).close()


def a_write(case):
    """The attempt is in the query or in the body."""
    a_report(case)
    if given(case.body, "attempt"):
        case.query.pop("attempt", None)


def an_append(case):
    """So is the rest; and a writer counts, with `seq`, or does not."""
    a_write(case)
    for name, names in (("pct", PERCENT), ("stage", STAGE), ("writer", ("writer", "seq")), ("seq", ("writer", "seq"))):
        if given(case.body, *names):
            case.query.pop(name, None)
    if not given(case.query, "writer") or not given(case.query, "seq"):
        case.query.pop("writer", None)
        case.query.pop("seq", None)
    as_lines_of_json(case)


def as_lines_of_json(case):
    """A text in lines of JSON is such lines."""
    if case.media_type == "application/x-ndjson" and isinstance(case.body, str):
        case.body = "\n".join(json.dumps(line) for line in case.body.splitlines() or [case.body])


def a_creation(case):
    """A key stands for one request; another one needs another key."""
    headers = case.headers or {}
    if "Idempotency-Key" in headers:
        key = f"{headers['Idempotency-Key']}-{next(numbers)}"
        headers["Idempotency-Key"] = key[-255:]


# Of all requests, the bad ones too, which the service may take for what they are not.
PRECAUTIONS = {
    "DELETE /jobs/{id}": a_removal,
    "GET /jobs/{id}/logs": an_endless_log,
}
# Of those that are meant to be good.
RULES = {
    "GET /jobs": a_list,
    "GET /events": a_feed,
    "GET /jobs/{id}": a_read,
    "GET /jobs/{id}/logs": a_log,
    "PATCH /jobs/{id}": a_write,
    "POST /jobs/{id}/heartbeat": a_write,
    "POST /jobs/{id}/logs": an_append,
    "POST /jobs": a_creation,
    "POST /jobs/claim": a_creation,
}


@schemathesis.deserializer("application/x-ndjson")
def first_line(context, response):
    """The schema of an answer in lines is that of a line."""
    for line in response.content.splitlines():
        return json.loads(line)
    raise NotImplementedError("nothing was asked for, and nothing is answered")


@schemathesis.check
def bad_operations_are_refused(context, response, case):
    """A batch is answered with 200 and a result for each operation: bad ones are refused there."""
    if case.operation.label != "POST /batch" or response.status_code != 200 or case.meta is None:
        return
    if case.meta.generation.mode.is_negative and case.media_type == "application/json":
        results = response.json()["results"]
        assert any(result["status"] >= 400 for result in results), "a bad operation was done"
