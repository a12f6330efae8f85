//! One endpoint's part of the OpenAPI document, as it stands beside the handler.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tidings_schemas::limits::{PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX};

use super::schemas::Schemas;
use crate::error::ErrorCode;

/// What an endpoint says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    title: &'static str,
    description: &'static str,
    needs_token: bool,
    query: Vec<Parameter>,
    body: Option<Body>,
    answers: Vec<(u16, &'static str, &'static str)>,
    refusals: Vec<(ErrorCode, &'static str)>,
}

#[derive(Debug, Clone)]
struct Parameter {
    name: &'static str,
    kind: &'static str,
    description: &'static str,
    required: bool,
}

#[derive(Debug, Clone)]
struct Body {
    message: &'static str,
    without: &'static [&'static str],
    needs: &'static [&'static str],
    optional: bool,
}

impl Operation {
    /// An operation with its id (camel case), the group it is shown in, and its title.
    pub(crate) fn new(id: &'static str, tag: &'static str, title: &'static str) -> Self {
        Self {
            id,
            tag,
            title,
            description: "",
            needs_token: true,
            query: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// More about it, in Markdown.
    pub(crate) fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// It is for everybody.
    pub(crate) fn without_token(mut self) -> Self {
        self.needs_token = false;
        self
    }

    /// It takes a message of the client contract, without these fields (the path has them), with these at the least.
    pub(crate) fn body(
        mut self,
        message: &'static str,
        without: &'static [&'static str],
        needs: &'static [&'static str],
    ) -> Self {
        self.body = Some(Body { message, without, needs, optional: false });
        self
    }

    /// It takes a message of the client contract, or none.
    pub(crate) fn optional_body(mut self, message: &'static str) -> Self {
        self.body = Some(Body { message, without: &[], needs: &[], optional: true });
        self
    }

    /// It takes a parameter in the query. `kind` is `string`, `uint32` or `uint64`.
    pub(crate) fn query(
        mut self,
        name: &'static str,
        kind: &'static str,
        description: &'static str,
        required: bool,
    ) -> Self {
        self.query.push(Parameter { name, kind, description, required });
        self
    }

    /// It gives a list in pages.
    pub(crate) fn page(self) -> Self {
        self.query("limit", "uint32", "How many items at the most: 50 if left out, at most 200.", false).query(
            "page_token",
            "string",
            "The `next_page_token` of the page before.",
            false,
        )
    }

    /// It answers so, with a message of the client contract.
    pub(crate) fn answers(mut self, status: u16, description: &'static str, message: &'static str) -> Self {
        self.answers.push((status, description, message));
        self
    }

    /// It refuses with this code when that is so.
    pub(crate) fn refuses(mut self, code: ErrorCode, when: &'static str) -> Self {
        self.refusals.push((code, when));
        self
    }

    /// The messages that it takes and that it gives.
    pub(super) fn messages(&self) -> (Option<&'static str>, Vec<&'static str>) {
        (self.body.as_ref().map(|body| body.message), self.answers.iter().map(|(_, _, message)| *message).collect())
    }

    /// The operation object.
    pub(super) fn document(&self, path: &str, schemas: &Schemas) -> Value {
        let mut parameters: Vec<Value> = path_parameters(path)
            .map(|name| {
                json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "maxLength": 64}})
            })
            .collect();
        parameters.extend(self.query.iter().map(Parameter::document));
        let mut operation = Map::new();
        operation.insert("operationId".to_owned(), self.id.into());
        operation.insert("tags".to_owned(), json!([self.tag]));
        operation.insert("summary".to_owned(), self.title.into());
        if !self.description.is_empty() {
            operation.insert("description".to_owned(), self.description.into());
        }
        if !self.needs_token {
            operation.insert("security".to_owned(), json!([]));
        }
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(body) = &self.body {
            let schema = schemas.request(body.message, body.without, body.needs);
            let content = json!({"application/json": {"schema": schema}});
            operation.insert("requestBody".to_owned(), json!({"required": !body.optional, "content": content}));
        }
        operation.insert("responses".to_owned(), self.responses(path));
        Value::Object(operation)
    }

    /// By status. Codes with the same status share a response.
    fn responses(&self, path: &str) -> Value {
        let mut responses: BTreeMap<u16, Value> = BTreeMap::new();
        for (status, description, message) in &self.answers {
            let content = json!({"application/json": {"schema": super::reference(message)}});
            responses.insert(*status, json!({"description": description, "content": content}));
        }
        let mut refusals = self.refusals.clone();
        let mut also = |code: ErrorCode, when: &'static str| {
            if refusals.iter().all(|(known, _)| *known != code) {
                refusals.push((code, when));
            }
        };
        if self.body.is_some() || !self.query.is_empty() || path_parameters(path).next().is_some() {
            also(ErrorCode::InvalidArgument, "The request is wrong; the message says what and where.");
        }
        if self.needs_token {
            also(ErrorCode::Unauthenticated, "No token, or one that is not valid or has ended.");
        }
        if self.body.is_some() {
            also(ErrorCode::TooLarge, "The body is too long.");
            also(ErrorCode::UnsupportedMediaType, "The body is not JSON.");
        }
        also(ErrorCode::Unavailable, "Not now: try again.");
        let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for (code, when) in refusals {
            by_status.entry(code.http_status()).or_default().push(format!("`{}`: {when}", code.name()));
        }
        for (status, texts) in by_status {
            let content = json!({"application/json": {"schema": super::reference("ErrorResponse")}});
            let mut response = json!({"description": texts.join("\n\n"), "content": content});
            if status == 429 {
                response["headers"] = json!({"Retry-After": {
                    "description": "Seconds until it can succeed.",
                    "schema": {"type": "integer", "minimum": 1},
                }});
            }
            responses.insert(status, response);
        }
        responses.into_iter().map(|(status, response)| (status.to_string(), response)).collect::<Map<_, _>>().into()
    }
}

impl Parameter {
    fn document(&self) -> Value {
        let mut schema = match self.kind {
            "string" => json!({"type": "string"}),
            "uint32" => json!({"type": "integer", "minimum": 1}),
            _ => json!({"type": "integer", "minimum": 0, "format": "uint64"}),
        };
        if self.name == "limit" && self.description.contains("200") {
            schema["default"] = PAGE_ITEMS_DEFAULT.into();
            schema["description"] = format!("More than {PAGE_ITEMS_MAX} is taken as {PAGE_ITEMS_MAX}.").into();
        }
        json!({
            "name": self.name,
            "in": "query",
            "required": self.required,
            "description": self.description,
            "schema": schema,
        })
    }
}

/// The names in a path's braces.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}
