//! `/docs`: the API reference, a page made from the OpenAPI document when the edge starts. No script, nothing from
//! elsewhere.

mod markup;

use std::{fmt::Write as _, sync::LazyLock};

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use self::markup::{Escaped, example, prose, schema_link};
use super::openapi::DOCUMENT;

static PAGE: LazyLock<String> = LazyLock::new(|| page_of(&DOCUMENT));

/// `GET /docs`.
pub(super) async fn page() -> Response {
    with_type(&PAGE, "text/html; charset=utf-8")
}

/// `GET /docs/style.css`.
pub(super) async fn style() -> Response {
    with_type(include_str!("docs/style.css"), "text/css; charset=utf-8")
}

fn with_type(text: &'static str, content_type: &'static str) -> Response {
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// An operation with where it stands.
struct Placed<'a> {
    method: &'static str,
    path: &'a str,
    operation: &'a Value,
}

fn page_of(document: &Value) -> String {
    let mut body = String::new();
    let mut navigation = String::new();
    let title = text(&document["info"]["title"]);
    let introduction = prose(text(&document["info"]["description"]));
    for tag in document["tags"].as_array().into_iter().flatten() {
        let (name, about) = (text(&tag["name"]), prose(text(&tag["description"])));
        put(&mut navigation, format_args!("<h2>{}</h2><ul>", Escaped(name)));
        put(&mut body, format_args!("<section><h2 id=\"{0}\">{0}</h2>{about}", Escaped(name)));
        for placed in operations(document, name) {
            let id = Escaped(text(&placed.operation["operationId"]));
            let summary = Escaped(text(&placed.operation["summary"]));
            let method = placed.method;
            put(
                &mut navigation,
                format_args!("<li><a href=\"#{id}\"><b class=\"m {method}\">{method}</b> {summary}</a></li>"),
            );
            put_operation(&mut body, document, &placed);
        }
        navigation.push_str("</ul>");
        body.push_str("</section>");
    }
    put_schemas(&mut body, &mut navigation, document);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} · API reference</title>\n<link rel=\"stylesheet\" href=\"/docs/style.css\">\n\
         <nav aria-label=\"Endpoints\"><a class=\"brand\" href=\"#top\">{title} <span>API reference</span></a>\
         {navigation}</nav>\n<main id=\"top\"><header><h1>{title} API</h1>{introduction}\
         <p><a class=\"button\" href=\"/openapi.json\">openapi.json</a> <a class=\"button\" href=\"/\">Open the chat</a></p>\
         </header>\n{body}</main>\n</html>\n"
    )
}

/// The operations of a group, in the document's order.
fn operations<'a>(document: &'a Value, tag: &'a str) -> impl Iterator<Item = Placed<'a>> {
    document["paths"].as_object().into_iter().flatten().flat_map(move |(path, methods)| {
        METHODS.into_iter().filter_map(move |method| {
            let operation = methods.get(method)?;
            let is_of_tag = operation["tags"].as_array()?.iter().any(|of| of == tag);
            is_of_tag.then_some(Placed { method, path, operation })
        })
    })
}

fn put_operation(to: &mut String, document: &Value, placed: &Placed<'_>) {
    let Placed { method, path, operation } = placed;
    let id = Escaped(text(&operation["operationId"]));
    put(to, format_args!("<article id=\"{id}\"><h3>{}</h3>", Escaped(text(&operation["summary"]))));
    put(to, format_args!("<p class=\"where\"><b class=\"m {method}\">{method}</b> <code>{}</code>", Escaped(path)));
    if operation.get("security").is_some() {
        to.push_str(" <span class=\"tag\">no token</span>");
    }
    to.push_str("</p>");
    to.push_str(&prose(text(&operation["description"])));

    let query = operation["parameters"].as_array().into_iter().flatten().filter(|of| of["in"] == "query");
    let query: Vec<&Value> = query.collect();
    if !query.is_empty() {
        to.push_str("<h4>Query</h4><table>");
        for parameter in query {
            let need = if parameter["required"] == true { " <span class=\"tag\">needed</span>" } else { "" };
            let (name, about) = (Escaped(text(&parameter["name"])), prose(text(&parameter["description"])));
            put(to, format_args!("<tr><td><code>{name}</code>{need}</td><td>{about}</td></tr>"));
        }
        to.push_str("</table>");
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        let about =
            if operation["requestBody"]["required"] == true { "" } else { " <span class=\"tag\">optional</span>" };
        put(to, format_args!("<h4>Body{about}</h4>"));
        put_fields(to, body);
        put(to, format_args!("<pre><code>{}</code></pre>", Escaped(&example(document, body))));
    }
    to.push_str("<h4>Answers</h4><table class=\"answers\">");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let kind = status.as_bytes().first().copied().map_or('x', char::from);
        let schema = &response["content"]["application/json"]["schema"];
        let about = prose(text(&response["description"]));
        let link = if kind == '2' { schema_link(schema) } else { String::new() };
        put(to, format_args!("<tr><td><b class=\"s s{kind}\">{status}</b></td><td>{about}{link}</td></tr>"));
    }
    to.push_str("</table></article>");
}

fn put_schemas(to: &mut String, navigation: &mut String, document: &Value) {
    navigation.push_str("<h2>Schemas</h2><ul>");
    to.push_str("<section><h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let name = Escaped(name);
        put(navigation, format_args!("<li><a href=\"#schema-{name}\">{name}</a></li>"));
        put(to, format_args!("<article id=\"schema-{name}\"><h3>{name}</h3>{}", prose(text(&schema["description"]))));
        put_fields(to, schema);
        put(
            to,
            format_args!(
                "<details><summary>Example</summary><pre><code>{}</code></pre></details></article>",
                Escaped(&example(document, schema))
            ),
        );
    }
    navigation.push_str("</ul>");
    to.push_str("</section>");
}

fn put_fields(to: &mut String, schema: &Value) {
    to.push_str("<table>");
    let required = schema["required"].as_array();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.is_some_and(|names| names.iter().any(|of| of == name));
        let need = if is_required { "" } else { " <span class=\"tag\">optional</span>" };
        let about = prose(text(&field["description"]));
        put(
            to,
            format_args!(
                "<tr><td><code>{}</code>{need}</td><td>{}{about}</td></tr>",
                Escaped(name),
                markup::kind(field)
            ),
        );
    }
    to.push_str("</table>");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Writing to a string cannot fail.
fn put(to: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = to.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_schema_has_its_place() {
        for methods in DOCUMENT["paths"].as_object().unwrap().values() {
            for operation in methods.as_object().unwrap().values() {
                let id = text(&operation["operationId"]);
                assert!(PAGE.contains(&format!("<article id=\"{id}\">")), "{id}");
                assert!(PAGE.contains(&format!("href=\"#{id}\"")), "{id}");
            }
        }
        for name in DOCUMENT["components"]["schemas"].as_object().unwrap().keys() {
            assert!(PAGE.contains(&format!("<article id=\"schema-{name}\">")), "{name}");
        }
        assert!(!PAGE.contains("<script") && !PAGE.contains("style=\""), "the policy allows nothing inline");
    }
}
