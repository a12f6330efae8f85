//! What endpoints have in common: a method and a path, a handler, and the text for the OpenAPI document.

use axum::{
    http::Method,
    routing::{MethodFilter, MethodRouter, on},
};

use super::{App, openapi::Operation};

/// An endpoint of the client contract.
pub(crate) struct Endpoint {
    /// Its method.
    pub(crate) method: Method,
    /// Its path, with `{name}` for a parameter: the same form in axum and in OpenAPI.
    pub(crate) path: &'static str,
    /// What it does.
    pub(crate) handler: MethodRouter<App>,
    /// Its part of the OpenAPI document.
    pub(crate) operation: Operation,
}

impl Endpoint {
    /// An endpoint.
    pub(crate) fn new<H, T>(method: MethodFilter, path: &'static str, handler: H, operation: Operation) -> Self
    where
        H: axum::handler::Handler<T, App>,
        T: 'static,
    {
        Self { method: name(method), path, handler: on(method, handler), operation }
    }
}

/// The method of a filter of one method.
fn name(filter: MethodFilter) -> Method {
    match filter {
        MethodFilter::POST => Method::POST,
        MethodFilter::PUT => Method::PUT,
        MethodFilter::PATCH => Method::PATCH,
        MethodFilter::DELETE => Method::DELETE,
        _ => Method::GET,
    }
}
