"""The OpenAPI document of the simulated service.

Pure data. This room must never say more than the service does.
"""

from __future__ import annotations

from kling_async.simulator.settings import MODEL

Schema = dict[str, object]


def openapi_document() -> Schema:
    """Return the document (OpenAPI 3.1) that `GET /openapi.json` serves."""
    generations: Schema = {"post": _submit(), "get": _poll()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Simulator of the AI/ML API: Kling, image to video", "version": "2"},
        "security": [{"key": []}],
        "paths": {
            "/v2/video/generations": generations,
            "/v2/logs": {"get": _log()},
            "/v2/billing": {"get": _balance()},
            "/v1/models": {"get": _models()},
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "ImageToVideo": _request_schema(),
                "Accepted": _accepted_schema(),
                "Generation": _generation_schema(),
                "Error": _error_schema(),
                "OlderError": _older_error_schema(),
            },
        },
    }


def _submit() -> Schema:
    return {
        "operationId": "submit",
        "summary": "Create a video generation task and send it to the server",
        "parameters": [_parameter("X-Client-Request-Id", "header", pattern="^[A-Za-z0-9._:-]{1,128}$")],
        "requestBody": {"required": True, "content": _json(_ref("ImageToVideo"))},
        "responses": {
            "200": {"description": "Accepted", "content": _json(_ref("Accepted"))},
            **_errors(400, 401, 403, 429, 500, 503),
        },
    }


def _poll() -> Schema:
    return {
        "operationId": "poll",
        "summary": "Retrieve the generated video from the server",
        "parameters": [_parameter("generation_id", "query", required=True)],
        "responses": {
            "200": {"description": "Where the job stands", "content": _json(_ref("Generation"))},
            **_errors(400, 401, 404, 429, 500, 503),
        },
    }


def _log() -> Schema:
    names = ("period", "start", "end", "model", "status")
    row = {
        "created": {"type": "string", "format": "date-time"},
        "status": {"enum": ["succeeded", "failed"]},
        "model": {"type": "string"},
        "cost": _object({"usd": {"type": "number"}, "credits": {"type": "integer"}}),
        "request_id": {"type": "string"},
        "inference_id": {"type": ["string", "null"]},
        "client_request_id": {"type": ["string", "null"]},
    }
    page = {name: {"type": "integer"} for name in ("limit", "offset", "total")}
    pagination = _object({**page, "has_more": {"type": "boolean"}})
    schema = _object({"data": {"type": "array", "items": _object(row)}, "pagination": pagination})
    return {
        "operationId": "log",
        "summary": "The usage log of the asking key, newest first",
        "parameters": [
            *(_parameter(name, "query") for name in names),
            _parameter("limit", "query", type="integer", minimum=1, maximum=100, default=50),
            _parameter("offset", "query", type="integer", minimum=0, default=0),
        ],
        "responses": {"200": {"description": "One page", "content": _json(schema)}, **_errors(400, 401, 429)},
    }


def _balance() -> Schema:
    schema = _object({"current_balance": {"type": "number"}, "currency": {"const": "USD"}})
    return {
        "operationId": "balance",
        "summary": "What can still be spent",
        "responses": {"200": {"description": "The balance", "content": _json(schema)}, **_errors(401)},
    }


def _models() -> Schema:
    model = _object({"id": {"type": "string"}, "aliases": {"type": "array"}, "pricing": {"type": "object"}})
    schema = _object({"data": {"type": "array", "items": model}})
    return {
        "operationId": "price",
        "summary": "Models and their prices",
        "security": [],
        "parameters": [_parameter("id", "query"), _parameter("include", "query")],
        "responses": {"200": {"description": "The models", "content": _json(schema)}},
    }


def _request_schema() -> Schema:
    uri: Schema = {"type": "string", "format": "uri"}
    text: Schema = {"type": "string", "maxLength": 2500}
    point = _object({"x": {"type": "integer"}, "y": {"type": "integer"}})
    trajectories: Schema = {"type": "array", "minItems": 2, "maxItems": 77, "items": point}
    mask = _object({"mask": uri, "trajectories": trajectories})
    return {
        **_object(
            {
                "model": {"enum": [MODEL]},
                "image_url": uri,
                "prompt": text,
                "tail_image_url": uri,
                "duration": {"enum": [5, 10], "default": 5},
                "negative_prompt": text,
                "cfg_scale": {"type": "number", "minimum": 0, "maximum": 1},
                "static_mask": uri,
                "dynamic_masks": {"type": "array", "maxItems": 6, "items": mask},
                "camera_control": {"type": "object"},
            }
        ),
        "required": ["model", "image_url"],
    }


def _accepted_schema() -> Schema:
    usage = _object({"credits_used": {"type": "integer"}, "usd_spent": {"type": "number"}})
    return {
        **_object({"id": {"type": "string"}, "status": {"type": "string"}, "meta": _object({"usage": usage})}),
        "required": ["id", "status"],
    }


def _generation_schema() -> Schema:
    return {
        **_object(
            {
                "id": {"type": "string"},
                "status": {"type": "string", "examples": ["queued", "generating", "completed", "error"]},
                "video": {"description": "An object with a url, a list of URLs, or a URL"},
                "error": {"description": "An object with name and message, one with a list of details, or a text"},
            }
        ),
        "required": ["id", "status"],
    }


def _error_schema() -> Schema:
    error = _object({"name": {"type": "string"}, "message": {"type": "string"}, "data": {}})
    texts = ("title", "message", "instance", "requestId", "timestamp")
    return _object({**{name: {"type": "string"} for name in texts}, "status": {"type": "integer"}, "error": error})


def _older_error_schema() -> Schema:
    texts = ("requestId", "timestamp", "path")
    return _object(
        {
            **{name: {"type": "string"} for name in texts},
            "statusCode": {"type": ["integer", "string"]},
            "message": {"type": ["string", "array"]},
        }
    )


def _errors(*statuses: int) -> Schema:
    content = {"application/problem+json": {"schema": _ref("Error")}, **_json(_ref("OlderError"))}
    return {str(status): {"description": "An error", "content": content} for status in statuses}


def _parameter(name: str, place: str, *, required: bool = False, **schema: object) -> Schema:
    return {"name": name, "in": place, "required": required, "schema": {"type": "string", **schema}}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
