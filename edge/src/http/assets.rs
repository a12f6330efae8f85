//! The web client: the files of its build, read into memory once, so that no path of a request ever reaches the disk.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tidings_schemas::limits::WEB_ASSETS_BYTES_MAX;
use xxhash_rust::xxh3::xxh3_64;

use super::{App, error::no_such_path};

/// Vite puts files here whose names carry the hash of what is in them.
const HASHED_FOLDER: &str = "assets/";
const INDEX: &str = "index.html";

/// The files of the web client.
#[derive(Debug, Default)]
pub(crate) struct Assets {
    /// By path, without a slash in front.
    files: HashMap<String, Asset>,
}

#[derive(Debug)]
struct Asset {
    content: Bytes,
    /// The same, compressed, where the build has put a file with this ending beside it.
    brotli: Option<Bytes>,
    gzip: Option<Bytes>,
    content_type: HeaderValue,
    cache_control: HeaderValue,
    etag: HeaderValue,
}

impl Assets {
    /// Reads the folder. One that cannot be read is like one that has not been built: the page at `/` says so.
    pub(crate) fn load(folder: Option<&Path>) -> Self {
        let Some(folder) = folder else {
            return Self::default();
        };
        let mut contents = HashMap::new();
        match read_folder(folder, &mut contents) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "the web client cannot be read: build it first");
                return Self::default();
            }
        }
        let compressed = |contents: &HashMap<String, Bytes>, path: &str, ending: &str| {
            contents.get(&format!("{path}{ending}")).cloned()
        };
        let files = contents
            .iter()
            .map(|(path, content)| {
                let asset = Asset {
                    content: content.clone(),
                    brotli: compressed(&contents, path, ".br"),
                    gzip: compressed(&contents, path, ".gz"),
                    content_type: HeaderValue::from_static(content_type(path)),
                    cache_control: HeaderValue::from_static(if path.starts_with(HASHED_FOLDER) {
                        "public, max-age=31536000, immutable"
                    } else {
                        "no-cache"
                    }),
                    etag: etag(content),
                };
                (path.clone(), asset)
            })
            .collect();
        Self { files }
    }

    /// The file at a path. A path of the client's own routes is its page.
    fn find(&self, path: &str) -> Option<&Asset> {
        let path = path.trim_start_matches('/');
        if let Some(asset) = self.files.get(path) {
            return Some(asset);
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let is_route = !last.contains('.') && !path.starts_with(HASHED_FOLDER);
        if is_route { self.files.get(INDEX) } else { None }
    }
}

/// Everything that is not an endpoint: the web client's files and routes.
pub(super) async fn fallback(State(app): State<App>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    let is_api = path == "/v1" || path.starts_with("/v1/");
    if is_api || !(method == Method::GET || method == Method::HEAD) {
        return no_such_path().into_response();
    }
    match app.assets.find(path) {
        Some(asset) => serve(asset, &headers),
        None if path == "/" && app.assets.files.is_empty() => not_built(),
        None => no_such_path().into_response(),
    }
}

fn serve(asset: &Asset, headers: &HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepts = |coding: &str| {
        accepted.split(',').any(|item| item.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(coding))
    };
    let (content, coding) = match (&asset.brotli, &asset.gzip) {
        (Some(brotli), _) if accepts("br") => (brotli, Some("br")),
        (_, Some(gzip)) if accepts("gzip") => (gzip, Some("gzip")),
        _ => (&asset.content, None),
    };
    let is_known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|known| {
        known.split(',').any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == asset.etag.as_bytes())
    });
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { Body::from(content.clone()).into_response() };
    let to = response.headers_mut();
    to.insert(header::CONTENT_TYPE, asset.content_type.clone());
    to.insert(header::CACHE_CONTROL, asset.cache_control.clone());
    to.insert(header::ETAG, asset.etag.clone());
    if asset.brotli.is_some() || asset.gzip.is_some() {
        to.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if let Some(coding) = coding.filter(|_| !is_known) {
        to.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    response
}

/// What `/` says where there is no web client.
fn not_built() -> Response {
    let page = include_str!("assets/not_built.html");
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], page).into_response()
}

/// All files below a folder, by their path in it. Links are not followed.
fn read_folder(root: &Path, into: &mut HashMap<String, Bytes>) -> io::Result<()> {
    let mut bytes = 0_usize;
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let content = fs::read(entry.path())?;
                bytes += content.len();
                if bytes > WEB_ASSETS_BYTES_MAX {
                    let what = format!("its files are more than {WEB_ASSETS_BYTES_MAX} bytes");
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
                }
                let path = entry.path();
                let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                into.insert(path, content.into());
            }
        }
    }
    Ok(())
}

fn etag(content: &[u8]) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{:016x}\"", xxh3_64(content))).unwrap_or(HeaderValue::from_static("\"\""))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assets() -> (tempfile::TempDir, Assets) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("assets")).unwrap();
        for (path, content) in [
            ("index.html", "<!doctype html>"),
            ("favicon.svg", "<svg/>"),
            ("assets/app-1a2b.js", "run()"),
            ("assets/app-1a2b.js.gz", "(run)"),
        ] {
            fs::write(folder.path().join(path), content).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("passwd.txt")).unwrap();
        let assets = Assets::load(Some(folder.path()));
        (folder, assets)
    }

    #[test]
    fn files_and_routes_are_found_and_nothing_else() {
        let (_folder, assets) = assets();
        let content = |path: &str| assets.find(path).map(|asset| asset.content.clone());
        assert_eq!(content("/").as_deref(), Some(&b"<!doctype html>"[..]));
        assert_eq!(content("/c/123").as_deref(), Some(&b"<!doctype html>"[..]), "a route of the client");
        assert_eq!(content("/assets/app-1a2b.js").as_deref(), Some(&b"run()"[..]));
        for path in
            ["/assets/app-old.js", "/assets/x", "/robots.txt", "/../../etc/passwd.txt", "/passwd.txt", "/%2e%2e/x.y"]
        {
            assert_eq!(content(path), None, "{path}");
        }
    }

    #[test]
    fn hashed_files_are_kept_and_the_page_is_asked_for_again() {
        let (_folder, assets) = assets();
        let response = serve(assets.find("/assets/app-1a2b.js").unwrap(), &HeaderMap::new());
        assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
        let page = assets.find("/").unwrap();
        let response = serve(page, &HeaderMap::new());
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, page.etag.clone());
        assert_eq!(serve(page, &headers).status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn a_compressed_file_goes_to_those_who_take_it() {
        let (_folder, assets) = assets();
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br;q=1.0, GZIP"));
        let response = serve(assets.find("/assets/app-1a2b.js").unwrap(), &headers);
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[header::VARY], "accept-encoding");
    }

    #[test]
    fn no_folder_is_no_files() {
        assert!(Assets::load(None).find("/").is_none());
        assert!(Assets::load(Some(Path::new("/nowhere"))).find("/").is_none());
    }
}
